"""Comparison of heads on the same folds: accuracies, times, and significance tests of the differences."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.model_selection import StratifiedKFold

from frostline.classifiers.errors import HeadError
from frostline.classifiers.heads.catalog import find_head
from frostline.classifiers.protocol.folds import assign_folds
from frostline.classifiers.protocol.significance import corrected_resampled_t, holm


@dataclass(frozen=True)
class HeadScore:
    """Accuracy and times of one head.

    Attributes:
        head: Name of the head.
        accuracy: Mean accuracy over folds.
        low: Lower end of the interval of the mean.
        high: Upper end of the interval of the mean.
        fit_seconds: Mean wall time per fit in seconds.
        predict_seconds: Mean wall time per predicted fold in seconds.
        folds: Accuracy on each fold.
    """

    head: str
    accuracy: float
    low: float
    high: float
    fit_seconds: float
    predict_seconds: float
    folds: tuple[float, ...]


@dataclass(frozen=True)
class PairTest:
    """Significance test of the difference between two heads.

    Attributes:
        better: Name of the head with the higher mean accuracy.
        worse: Name of the other head.
        difference: Difference of the mean accuracies.
        low: Lower end of the interval of the difference.
        high: Upper end of the interval of the difference.
        pvalue: p-value of the corrected resampled t-test.
        adjusted: p-value adjusted for the number of pairs.
    """

    better: str
    worse: str
    difference: float
    low: float
    high: float
    pvalue: float
    adjusted: float


@dataclass(frozen=True)
class Comparison:
    """Scores of heads, and significance tests of all pairs.

    Attributes:
        scores: One score per head, in descending order of accuracy.
        pairs: One test per pair of heads, in ascending order of adjusted p-value.
        confidence: Coverage of all intervals.
    """

    scores: tuple[HeadScore, ...]
    pairs: tuple[PairTest, ...]
    confidence: float

    def rows(self) -> list[dict[str, Any]]:
        """Return one dictionary per head."""
        return [asdict(score) for score in self.scores]

    def to_pandas(self) -> Any:
        """Return the rows as a pandas DataFrame, indexed by the names of the heads.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("to_pandas needs pandas: pip install pandas") from error
        return pd.DataFrame(self.rows()).set_index("head")

    def __str__(self) -> str:
        width = max(len(score.head) for score in self.scores)
        lines = [f"{'head':{width}}  accuracy  {self.confidence:.0%} interval   fit s  predict s"]
        lines += [
            f"{s.head:{width}}  {s.accuracy:8.4f}  {s.low:.4f} - {s.high:.4f}  {s.fit_seconds:6.2f}  {s.predict_seconds:9.3f}"
            for s in self.scores
        ]
        lines += [
            f"{p.better} over {p.worse}: {p.difference:+.4f} ({p.low:+.4f} to {p.high:+.4f}), p = {p.adjusted:.2g}"
            for p in self.pairs
        ]
        return "\n".join(lines)


def compare_heads(
    X: Any,
    y: NDArray[Any],
    heads: Mapping[str, Any] | Sequence[str],
    *,
    folds: int = 5,
    content: NDArray[np.uint8] | None = None,
    groups: NDArray[Any] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    device: str = "auto",
    trusted: Collection[str] = (),
) -> Comparison:
    """Cross-validate heads on the same folds.

    Intervals and p-values are those of the corrected resampled t-test (Nadeau & Bengio 2003), which accounts for
    the training rows that folds share. The p-values are adjusted for the number of pairs by Holm's method. Pass
    rows of train and val only: the test score of a head that was chosen on test rows is biased.

    Args:
        X: (n, d) features.
        y: (n,) labels.
        heads: Unfitted scikit-learn classifiers by name, or names of heads with default parameters; see
            `frostline.classifiers.heads.catalog.find_head`.
        folds: Number of folds, at least 2.
        content: (n, 16) digests of the image bytes, to keep copies in one fold. Without digests, folds are
            stratified and random.
        groups: (n,) groups to keep in one fold, empty for no group. Requires content.
        confidence: Coverage of the intervals.
        seed: Seed of random folds, and of heads given by name.
        device: Device of torch heads given by name.
        trusted: Modules that heads given as ``module:Class`` may import; passing a classifier itself needs no trust.

    Returns:
        Scores of all heads, and tests of all pairs.

    Raises:
        HeadError: The shapes do not match, no head is given, or a head is unknown.
        SplitError: The folds cannot be made.
        MetricsError: The confidence is not between 0 and 1.
    """
    y = np.asarray(y)
    if len(X) != len(y) or not len(heads):
        raise HeadError(
            f"got {len(X)} rows of features, {len(y)} labels and {len(heads)} heads, expected as many labels as rows and "
            "at least one head"
        )
    estimators = (
        dict(heads)
        if isinstance(heads, Mapping)
        else {name: _named(name, seed, device, trusted) for name in heads}
    )
    parts = _folds(y, folds, content, groups, seed)
    ratio = 1 / (folds - 1)
    scores = [
        _score(name, each, X, y, parts=parts, ratio=ratio, confidence=confidence)
        for name, each in estimators.items()
    ]
    scores.sort(key=lambda score: -score.accuracy)
    return Comparison(tuple(scores), _test_pairs(scores, ratio, confidence), confidence)


def _named(name: str, seed: int, device: str, trusted: Collection[str]) -> Any:
    kind = find_head(name, trusted)
    return kind.build(kind.complete({}), seed, device)


_Fold = tuple[NDArray[np.int64], NDArray[np.int64]]


def _folds(
    y: NDArray[Any], folds: int, content: NDArray[np.uint8] | None, groups: NDArray[Any] | None, seed: int
) -> list[_Fold]:
    if content is None:
        if groups is not None:
            raise HeadError(
                "got groups without content; pass the digests of the images as well (FeatureCache.content)"
            )
        try:
            return list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(np.zeros(len(y)), y))
        except ValueError as error:
            raise HeadError(f"folds can't be made: {error}") from error
    fold = assign_folds(content, np.full(len(y), "") if groups is None else groups, folds)
    return [(np.flatnonzero(fold != number), np.flatnonzero(fold == number)) for number in range(folds)]


def _score(
    name: str,
    estimator: Any,
    X: Any,
    y: NDArray[Any],
    *,
    parts: Sequence[_Fold],
    ratio: float,
    confidence: float,
) -> HeadScore:
    accuracies, fits, predictions = [], [], []
    for train, held in parts:
        began = time.perf_counter()
        fitted = clone(estimator).fit(X[train], y[train])
        between = time.perf_counter()
        accuracies.append(float((fitted.predict(X[held]) == y[held]).mean()))
        fits.append(between - began)
        predictions.append(time.perf_counter() - between)
    found = corrected_resampled_t(accuracies, ratio, confidence=confidence)
    low, high = max(found.low, 0.0), min(found.high, 1.0)
    times = float(np.mean(fits)), float(np.mean(predictions))
    return HeadScore(name, found.mean, low, high, *times, tuple(accuracies))


def _test_pairs(scores: Sequence[HeadScore], ratio: float, confidence: float) -> tuple[PairTest, ...]:
    pairs = list(combinations(scores, 2))
    tests = [
        corrected_resampled_t(np.subtract(better.folds, worse.folds), ratio, confidence=confidence)
        for better, worse in pairs
    ]
    adjusted = holm([test.pvalue for test in tests])
    found = [
        PairTest(better.head, worse.head, test.mean, test.low, test.high, test.pvalue, float(value))
        for (better, worse), test, value in zip(pairs, tests, adjusted, strict=True)
    ]
    return tuple(sorted(found, key=lambda pair: (pair.adjusted, -pair.difference)))
