"""Temperature scaling of head scores, and reliability of the resulting probabilities."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV

from frostline.classifiers.protocol.calibration_error import BINS, bin_of, rms_calibration_error
from frostline.classifiers.protocol.intervals import Interval

# Largest number of scores that a temperature is fitted to; evenly spaced rows are used beyond it.
_CELLS = 2**24


def fit_temperature(scores: NDArray[np.float64], y: NDArray[np.int64]) -> float:
    """Fit the temperature T that minimises the log loss of softmax(scores / T) (Guo et al. 2017), by scikit-learn.

    A weight of 1 / (n + 2) of each row is assigned to a wrong label, similar to Platt 1999, so that the temperature
    stays above 0 if all rows are predicted correctly.

    Args:
        scores: (n, k) scores of rows that the head was not fitted to, e.g. log probabilities. Larger is more
            likely.
        y: (n,) column of the true class of each row.

    Returns:
        The temperature; 1 if there are no rows, or if all scores of each row are equal.
    """
    n, k = scores.shape
    if n * k > _CELLS:  # more data would not improve a single parameter
        step = -(-n * k // _CELLS)
        return fit_temperature(scores[::step], y[::step])
    centred = scores - scores.mean(axis=1, keepdims=True) if n else scores
    spread = float(np.abs(centred).mean()) if n else 0.0
    if spread == 0:
        return 1.0
    wrong = (y + 1 + np.arange(n) % (k - 1)) % k  # cycle through the wrong classes
    present = np.zeros(k, np.int64)  # rows of weight 0: scikit-learn requires every class
    rows = centred[np.concatenate([np.arange(n), np.arange(n), present])] / spread
    labels = np.concatenate([y, wrong, np.arange(k)])
    weight = np.repeat([1 - 1 / (n + 2), 1 / (n + 2), 0], [n, n, k])
    everything = np.arange(len(rows))
    model = CalibratedClassifierCV(
        _Scores(), method="temperature", cv=[(everything, everything)], ensemble=False
    ).fit(rows, labels, sample_weight=weight)
    inverse = model.calibrated_classifiers_[0].calibrators[0].beta_
    return spread / float(inverse)


class _Scores(ClassifierMixin, BaseEstimator):
    """A classifier whose inputs are its scores."""

    def fit(self, _X: NDArray[Any], y: NDArray[Any], sample_weight: Any = None) -> Self:  # noqa: ARG002
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        # scikit-learn expands the margin m of two classes to (-m, m).
        return (X[:, 1] - X[:, 0]) / 2 if X.shape[1] == 2 else X

    def predict(self, X: NDArray[np.float64]) -> NDArray[Any]:
        labels: NDArray[Any] = self.classes_[X.argmax(axis=1)]
        return labels


@dataclass(frozen=True)
class Reliability:
    """Reliability diagram: accuracy against confidence in equal-width bins of the top-class probability.

    Attributes:
        edges: (b + 1,) bin edges. A bin includes its upper edge.
        counts: (b,) number of rows per bin.
        confidence: (b,) mean probability per bin, 0 for an empty bin.
        accuracy: (b,) accuracy per bin, 0 for an empty bin.
        rms_calibration_error: Debiased root mean square difference of confidence and accuracy, with its 95 %
            interval.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    rms_calibration_error: Interval


def reliability(y: NDArray[np.int64], proba: NDArray[np.float64]) -> Reliability:
    """Compute the reliability diagram of probabilities.

    Args:
        y: (n,) columns of the true classes.
        proba: (n, k) probabilities.

    Returns:
        Confidence and accuracy per bin, and the calibration error.
    """
    top, hit = proba.max(axis=1), proba.argmax(axis=1) == y
    bins = bin_of(top)
    counts = np.bincount(bins, minlength=BINS).astype(np.int64)
    sure, right = (np.bincount(bins, values, BINS) for values in (top, hit))
    filled = np.maximum(counts, 1)
    error = rms_calibration_error(top, hit)
    return Reliability(np.linspace(0, 1, BINS + 1), counts, sure / filled, right / filled, error)


@dataclass(frozen=True)
class Calibration:
    """Reliability before and after temperature scaling.

    Attributes:
        temperature: Divisor of the scores.
        before: Reliability of softmax(scores), or of the head's own probabilities.
        after: Reliability of the scaled probabilities.
    """

    temperature: float
    before: Reliability
    after: Reliability
