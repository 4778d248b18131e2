"""Compare heads on the same folds: accuracies, times, and which differences are more than luck."""

import time
from collections.abc import Mapping, Sequence
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
    """How one head did.

    Attributes:
        head: Its name.
        accuracy: Mean over folds.
        low: Lower end of the interval of the mean.
        high: Upper end.
        fit_seconds: Mean wall time of a fit.
        predict_seconds: Mean wall time of predicting a fold.
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
    """Whether one head is more accurate than another.

    Attributes:
        better: The head of higher mean accuracy.
        worse: The other.
        difference: Of their mean accuracies.
        low: Lower end of its interval.
        high: Upper end.
        pvalue: Of the corrected resampled t-test.
        adjusted: The same, adjusted for the number of pairs.
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
    """Heads, the most accurate first, and all pairs of them.

    Attributes:
        scores: One per head.
        pairs: One per pair of heads, the least adjusted p-value first.
        confidence: Coverage of all intervals.
    """

    scores: tuple[HeadScore, ...]
    pairs: tuple[PairTest, ...]
    confidence: float

    def rows(self) -> list[dict[str, Any]]:
        """One plain row per head."""
        return [asdict(score) for score in self.scores]

    def to_pandas(self) -> Any:
        """The rows as a pandas DataFrame, the heads' names as its index.

        Raises:
            ImportError: pandas isn't installed.
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
) -> Comparison:
    """Cross-validate heads on the same folds.

    Intervals and p-values are those of the corrected resampled t-test (Nadeau & Bengio 2003), which knows that the
    folds share training rows; p-values are adjusted for the number of pairs by Holm's method. Give rows of train and
    val only: a head that is chosen by what it does on test rows has no honest test score left.

    Args:
        X: (n, d) features.
        y: (n,) labels.
        heads: Unfitted scikit-learn classifiers by name, or names of `classifiers.heads.catalog.find_head`, at their defaults.
        folds: How many, at least 2.
        content: (n, 16) digests of the image bytes, to keep copies in one fold; without them folds are stratified
            and random.
        groups: (n,) groups to keep in one fold, empty for none; with content only.
        confidence: Coverage of the intervals.
        seed: Seed of random folds, and of heads that are given by name.
        device: Where torch heads that are given by name train.

    Raises:
        HeadError: Arrays that don't fit, no head, or an unknown one.
        SplitError: Folds that can't be made.
        MetricsError: A confidence that is no share.
    """
    y = np.asarray(y)
    if len(X) != len(y) or not len(heads):
        raise HeadError(
            f"got {len(X)} rows of features, {len(y)} labels and {len(heads)} heads, expected as many labels as rows and "
            "at least one head"
        )
    estimators = (
        dict(heads) if isinstance(heads, Mapping) else {name: _named(name, seed, device) for name in heads}
    )
    parts = _folds(y, folds, content, groups, seed)
    ratio = 1 / (folds - 1)
    scores = [
        _score(name, each, X, y, parts=parts, ratio=ratio, confidence=confidence)
        for name, each in estimators.items()
    ]
    scores.sort(key=lambda score: -score.accuracy)
    return Comparison(tuple(scores), _test_pairs(scores, ratio, confidence), confidence)


def _named(name: str, seed: int, device: str) -> Any:
    kind = find_head(name)
    return kind.build(kind.complete({}), seed, device)


_Fold = tuple[NDArray[np.int64], NDArray[np.int64]]


def _folds(
    y: NDArray[Any], folds: int, content: NDArray[np.uint8] | None, groups: NDArray[Any] | None, seed: int
) -> list[_Fold]:
    if content is None:
        if groups is not None:
            raise HeadError(
                "got groups without content; give the digests of the images, too (FeatureCache.content)"
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
