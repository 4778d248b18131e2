"""How good the probabilities of a head are, with intervals that say how far to believe it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from classifiers.calibration import BINS, bin_of
from classifiers.errors import MetricsError

__all__ = ["ClassScore", "Interval", "Metrics", "score"]

_CLIP = float(np.finfo(np.float64).eps)  # least probability that log loss sees, as in scikit-learn
_LARGEST = np.array([1, 1, 1, 1, np.inf, 1])  # value of each metric, in the order of `Metrics`
_CELLS = 2**22  # entries of the resampling matrix held at a time: 32 MB


class Interval(NamedTuple):
    """A metric and its bootstrap interval."""

    value: float
    low: float
    high: float


class ClassScore(NamedTuple):
    """One class's line in the table; a ratio without a denominator is 0."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Metrics:
    """Scores of n rows over k classes.

    Attributes:
        n: Rows scored.
        classes: The k class names.
        top1: Share of rows whose most probable class is the true one.
        top5: Share of rows whose true class is among the min(5, k) most probable.
        balanced_accuracy: Mean recall over the classes that occur.
        macro_f1: Mean F1 over the classes that occur or are predicted.
        log_loss: Mean negative log probability of the true class, probabilities clipped at 2.2e-16.
        ece: Expected calibration error of the most probable class: 15 equal-width bins (Guo et al. 2017).
        per_class: Precision, recall, F1 and support by class.
        confusion: (k, k) rows of true class i predicted as class j.
        confidence: Coverage of the intervals.
        bootstrap: Resamples behind the intervals.
    """

    n: int
    classes: tuple[str, ...]
    top1: Interval
    top5: Interval
    balanced_accuracy: Interval
    macro_f1: Interval
    log_loss: Interval
    ece: Interval
    per_class: tuple[ClassScore, ...]
    confusion: NDArray[np.int64]
    confidence: float
    bootstrap: int


def score(
    y: NDArray[np.int64],
    proba: NDArray[np.float64],
    *,
    classes: Sequence[str],
    bootstrap: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Metrics:
    """Score probabilities against labels, with bootstrap intervals over rows.

    They are percentile intervals (Efron 1979) less the bootstrap's estimate of the bias (Efron & Tibshirani 1993, chapter 10).

    Of equally probable classes the first counts as the more probable one. Every metric is a function of sums over
    rows, so that a resample costs a few sparse products and no second look at the (n, k) probabilities.

    Args:
        y: (n,) indices into classes.
        proba: (n, k) probabilities.
        classes: The k class names.
        bootstrap: Number of resamples.
        confidence: Coverage of the intervals.
        seed: Seed of the resamples.

    Raises:
        MetricsError: No rows, shapes that don't fit, labels out of range, rows that are no probabilities.
    """
    y, proba = np.asarray(y), np.asarray(proba)
    _check(y, proba, classes, bootstrap, confidence)
    k = len(classes)
    predicted = proba.argmax(axis=1)
    sums = _RowSums(y, predicted, proba)
    values = sums.metrics(np.ones((len(y), 1)))
    samples = _resample(sums, len(y), bootstrap, seed)
    tail = (1 - confidence) / 2
    # Resamples repeat rows, which inflates the calibration error; the others have next to no bias.
    bias = samples.mean(axis=1) - values[:, 0]
    low, high = np.clip(np.quantile(samples, (tail, 1 - tail), axis=1) - bias, 0, _LARGEST)
    triples = zip(values[:, 0].tolist(), low.tolist(), high.tolist(), strict=True)
    top1, top5, balanced_accuracy, macro_f1, log_loss, ece = (Interval(*triple) for triple in triples)
    confusion = np.bincount(y * k + predicted, minlength=k * k).reshape(k, k)
    return Metrics(
        n=len(y),
        classes=tuple(classes),
        top1=top1,
        top5=top5,
        balanced_accuracy=balanced_accuracy,
        macro_f1=macro_f1,
        log_loss=log_loss,
        ece=ece,
        per_class=_per_class(confusion, classes),
        confusion=confusion,
        confidence=confidence,
        bootstrap=bootstrap,
    )


def _check(
    y: NDArray[np.int64],
    proba: NDArray[np.float64],
    classes: Sequence[str],
    bootstrap: int,
    confidence: float,
) -> None:
    k = len(classes)
    if y.ndim != 1 or not y.size or proba.shape != (y.size, k):
        raise MetricsError(
            f"got labels of shape {y.shape} and probabilities of shape {proba.shape}, expected (n,) and (n, {k}), n > 0"
        )
    if y.min() < 0 or y.max() >= k:
        raise MetricsError(
            f"labels: got {y.min()} to {y.max()}, expected 0 to {k - 1}; leave unlabelled rows (-1) out"
        )
    off = np.flatnonzero(~(np.abs(proba.sum(axis=1) - 1) < 1e-4) | (proba.min(axis=1) < 0))
    if off.size:
        raise MetricsError(
            f"probabilities: row {off[0]} (and {off.size - 1} more) got sum {proba[off[0]].sum():.6g} and minimum "
            f"{proba[off[0]].min():.6g}, expected 1 and at least 0"
        )
    if bootstrap < 1 or not 0 < confidence < 1:
        raise MetricsError(
            f"got bootstrap={bootstrap} and confidence={confidence}, expected at least 1, and between 0 and 1"
        )


class _RowSums:
    """Every metric as a function of weighted sums over rows."""

    def __init__(
        self, y: NDArray[np.int64], predicted: NDArray[np.int64], proba: NDArray[np.float64]
    ) -> None:
        n, k = proba.shape
        rows = np.arange(n)
        true, top = proba[rows, y], proba[rows, predicted]
        better = (proba > true[:, None]).sum(axis=1)
        better += ((proba == true[:, None]) & (np.arange(k) < y[:, None])).sum(axis=1)
        hit = predicted == y
        bins = bin_of(top)
        # One line of the matrix per sum: a few hits per row, whatever the number of classes.
        parts = [
            (np.zeros(n, np.int64), hit),
            (np.ones(n, np.int64), better < 5),
            (np.full(n, 2), -np.log(np.clip(true, _CLIP, 1))),
            (3 + bins, hit - top),
            (3 + BINS + y, np.ones(n)),
            (3 + BINS + k + predicted, np.ones(n)),
            (3 + BINS + 2 * k + y, hit),
        ]
        lines, values = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
        columns = np.tile(rows, len(parts))
        self._cuts = np.cumsum([3, BINS, k, k])
        self._matrix = csr_array((values.astype(np.float64), (lines, columns)), shape=(3 + BINS + 3 * k, n))

    def metrics(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """(6, m) metrics, in the order of `Metrics`, of m weightings (n, m) of the rows."""
        plain, gaps, support, predicted, hits = np.split(self._matrix @ weights, self._cuts)
        n = weights.sum(axis=0)
        recall = np.divide(hits, support, out=np.zeros_like(hits), where=support > 0)
        either = support + predicted
        f1 = np.divide(2 * hits, either, out=np.zeros_like(hits), where=either > 0)
        balanced = recall.sum(axis=0) / (support > 0).sum(axis=0)
        macro = f1.sum(axis=0) / (either > 0).sum(axis=0)
        return np.stack(
            [
                plain[0] / n,
                plain[1] / n,
                balanced,
                macro,
                plain[2] / n,
                np.abs(gaps).sum(axis=0) / n,
            ]
        )


def _resample(sums: _RowSums, n: int, resamples: int, seed: int) -> NDArray[np.float64]:
    """(6, resamples) metrics of rows drawn with replacement, a bounded number of resamples at a time."""
    rng = np.random.default_rng(seed)
    width = max(1, _CELLS // n)
    chunks = []
    for start in range(0, resamples, width):
        m = min(width, resamples - start)
        weights = np.empty((n, m))
        for column in range(m):
            weights[:, column] = np.bincount(rng.integers(0, n, n), minlength=n)
        chunks.append(sums.metrics(weights))
    return np.concatenate(chunks, axis=1)


def _per_class(confusion: NDArray[np.int64], classes: Sequence[str]) -> tuple[ClassScore, ...]:
    hits, support, predicted = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    precision, recall, f1 = (
        np.divide(top, bottom, out=np.zeros(len(classes)), where=bottom > 0)
        for top, bottom in ((hits, predicted), (hits, support), (2 * hits, support + predicted))
    )
    columns = (precision.tolist(), recall.tolist(), f1.tolist(), support.tolist())
    return tuple(ClassScore(*line) for line in zip(classes, *columns, strict=True))
