"""Metrics of head probabilities, with confidence intervals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.errors import MetricsError
from frostline.classifiers.protocol.calibration_error import rms_calibration_error
from frostline.classifiers.protocol.intervals import Interval, balanced_accuracy, log_loss, macro_f1, share


class ClassScore(NamedTuple):
    """Scores of one class; a ratio with denominator 0 is 0."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, eq=False)
class ScoredRows:
    """Inputs of the metrics: n rows over k classes.

    Attributes:
        y: (n,) true classes.
        proba: (n, k) probabilities.
        hit: (n,) bool mask of the rows whose most probable class is the true one.
        confusion: (k, k) number of rows of true class i that were predicted as class j.
    """

    y: NDArray[np.int64]
    proba: NDArray[np.float64]
    hit: NDArray[np.bool_]
    confusion: NDArray[np.int64]


@dataclass(frozen=True)
class Metric:
    """A metric of predicted probabilities.

    Attributes:
        interval: Function that returns the value with its interval, given the rows and the coverage.
        greater_is_better: Whether a larger value is better.
    """

    interval: Callable[[ScoredRows, float], Interval]
    greater_is_better: bool


@dataclass(frozen=True)
class Metrics:
    """Scores of n rows over k classes: those of `METRICS`, and the counts per class.

    Attributes:
        n: Number of rows.
        classes: The k class names.
        top1: Proportion of rows whose most probable class is the true one.
        top5: Proportion of rows whose true class is among the min(5, k) most probable.
        balanced_accuracy: Mean recall over the classes that occur.
        macro_f1: Mean F1 over the classes that occur or are predicted.
        log_loss: Mean negative log probability of the true class, probabilities clipped at 2.2e-16.
        rms_calibration_error: Root mean square calibration error of the most probable class; see
            `frostline.classifiers.protocol.calibration_error`.
        per_class: Precision, recall, F1 and support per class.
        confusion: (k, k) number of rows of true class i that were predicted as class j.
        confidence: Coverage of the intervals.
    """

    n: int
    classes: tuple[str, ...]
    top1: Interval
    top5: Interval
    balanced_accuracy: Interval
    macro_f1: Interval
    log_loss: Interval
    rms_calibration_error: Interval
    per_class: tuple[ClassScore, ...]
    confusion: NDArray[np.int64]
    confidence: float


def _top1(rows: ScoredRows, confidence: float) -> Interval:
    return share(int(rows.hit.sum()), len(rows.y), confidence)


def _top5(rows: ScoredRows, confidence: float) -> Interval:
    y, proba = rows.y, rows.proba
    n, k = proba.shape
    if k <= 5:  # exact for any rows
        return Interval(1.0, 1.0, 1.0)
    own = proba[np.arange(n), y][:, None]
    better = (proba > own).sum(axis=1) + ((proba == own) & (np.arange(k) < y[:, None])).sum(axis=1)
    return share(int((better < 5).sum()), n, confidence)


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "top1": Metric(_top1, greater_is_better=True),
        "top5": Metric(_top5, greater_is_better=True),
        "balanced_accuracy": Metric(
            lambda rows, confidence: balanced_accuracy(rows.confusion, confidence), greater_is_better=True
        ),
        "macro_f1": Metric(
            lambda rows, confidence: macro_f1(rows.confusion, confidence), greater_is_better=True
        ),
        "log_loss": Metric(
            lambda rows, confidence: log_loss(rows.y, rows.proba, confidence), greater_is_better=False
        ),
        "rms_calibration_error": Metric(
            lambda rows, confidence: rms_calibration_error(rows.proba.max(axis=1), rows.hit, confidence),
            greater_is_better=False,
        ),
    }
)
"""The metrics by name, in the order in which they are shown. Each is a field of `Metrics`."""


def score(
    y: NDArray[np.int64],
    proba: NDArray[np.float64],
    *,
    classes: Sequence[str],
    confidence: float = 0.95,
) -> Metrics:
    """Score probabilities against labels, with confidence intervals for the population of the rows.

    The intervals have closed forms. Unlike the percentile bootstrap, they keep their coverage near the ends of the
    range; see `frostline.classifiers.protocol.intervals` and `frostline.classifiers.protocol.calibration_error`. Ties between
    probabilities are broken in favour of the first class.

    Args:
        y: (n,) indices into classes.
        proba: (n, k) probabilities.
        classes: The k class names.
        confidence: Coverage of the intervals.

    Returns:
        All metrics of the rows.

    Raises:
        MetricsError: There are no rows, the shapes do not match, labels are out of range, or rows are not
            probabilities.
    """
    y, proba = np.asarray(y), np.asarray(proba)
    _check(y, proba, classes, confidence)
    n, k = proba.shape
    predicted = proba.argmax(axis=1)
    hit = predicted == y
    confusion = np.bincount(y * k + predicted, minlength=k * k).reshape(k, k)
    rows = ScoredRows(y, proba, hit, confusion)
    return Metrics(
        n=n,
        classes=tuple(classes),
        **{name: metric.interval(rows, confidence) for name, metric in METRICS.items()},
        per_class=_per_class(confusion, classes),
        confusion=confusion,
        confidence=confidence,
    )


def _check(
    y: NDArray[np.int64],
    proba: NDArray[np.float64],
    classes: Sequence[str],
    confidence: float,
) -> None:
    k = len(classes)
    if y.ndim != 1 or not y.size or proba.shape != (y.size, k):
        raise MetricsError(
            f"got labels of shape {y.shape} and probabilities of shape {proba.shape}, expected (n,) and (n, {k}), n > 0"
        )
    if y.min() < 0 or y.max() >= k:
        raise MetricsError(
            f"labels: got {y.min()} to {y.max()}, expected 0 to {k - 1}; drop unlabelled rows (-1)"
        )
    off = np.flatnonzero(~(np.abs(proba.sum(axis=1) - 1) < 1e-4) | (proba.min(axis=1) < 0))
    if off.size:
        raise MetricsError(
            f"probabilities: row {off[0]} (and {off.size - 1} more) got sum {proba[off[0]].sum():.6g} and minimum "
            f"{proba[off[0]].min():.6g}, expected 1 and at least 0"
        )
    if not 0 < confidence < 1:
        raise MetricsError(f"confidence: got {confidence}, expected a number between 0 and 1")


def _per_class(confusion: NDArray[np.int64], classes: Sequence[str]) -> tuple[ClassScore, ...]:
    hits, support, predicted = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    precision, recall, f1 = (
        np.divide(top, bottom, out=np.zeros(len(classes)), where=bottom > 0)
        for top, bottom in ((hits, predicted), (hits, support), (2 * hits, support + predicted))
    )
    columns = (precision.tolist(), recall.tolist(), f1.tolist(), support.tolist())
    return tuple(ClassScore(*line) for line in zip(classes, *columns, strict=True))
