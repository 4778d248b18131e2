"""Scores to probabilities: one temperature, fitted on rows that the head was not."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV

from frostline.classifiers.protocol.calibration_error import BINS, bin_of, rms_calibration_error
from frostline.classifiers.protocol.intervals import Interval

_CELLS = 2**24  # scores that a temperature is fitted to at most, evenly spaced


def fit_temperature(scores: NDArray[np.float64], y: NDArray[np.int64]) -> float:
    """Find the temperature T for which softmax(scores / T) has the least log loss (Guo et al. 2017), by scikit-learn.

    A share of 1 / (n + 2) of each row goes to a label that is not true, much as in Platt 1999, so that rows without a
    mistake don't make the head infinitely sure.

    Args:
        scores: (n, k) of rows that the head was not fitted to; larger is more likely, e.g. log probabilities.
        y: (n,) column of each row's class.

    Returns:
        The temperature; 1 where the scores say nothing.
    """
    n, k = scores.shape
    if n * k > _CELLS:  # plenty for one parameter
        step = -(-n * k // _CELLS)
        return fit_temperature(scores[::step], y[::step])
    centred = scores - scores.mean(axis=1, keepdims=True) if n else scores
    spread = float(np.abs(centred).mean()) if n else 0.0
    if spread == 0:
        return 1.0
    wrong = (y + 1 + np.arange(n) % (k - 1)) % k  # each row tells another one, in turn
    present = np.zeros(k, np.int64)  # lines without weight: scikit-learn wants to see every class
    rows = centred[np.concatenate([np.arange(n), np.arange(n), present])] / spread
    labels = np.concatenate([y, wrong, np.arange(k)])
    weights = np.repeat([1 - 1 / (n + 2), 1 / (n + 2), 0], [n, n, k])
    everything = np.arange(len(rows))
    model = CalibratedClassifierCV(
        _Scores(), method="temperature", cv=[(everything, everything)], ensemble=False
    ).fit(rows, labels, sample_weight=weights)
    inverse = model.calibrated_classifiers_[0].calibrators[0].beta_
    return spread / float(inverse)


class _Scores(ClassifierMixin, BaseEstimator):
    """A classifier whose inputs are its scores."""

    def fit(self, _X: NDArray[Any], y: NDArray[Any], sample_weight: Any = None) -> Self:  # noqa: ARG002
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        # scikit-learn makes (-m, m) of the margin m of two classes.
        return (X[:, 1] - X[:, 0]) / 2 if X.shape[1] == 2 else X

    def predict(self, X: NDArray[np.float64]) -> NDArray[Any]:
        labels: NDArray[Any] = self.classes_[X.argmax(axis=1)]
        return labels


@dataclass(frozen=True)
class Reliability:
    """How often a head is right when it is so sure, by equal bins of the probability of the most probable class.

    Attributes:
        edges: (b + 1,) ends of the bins; a bin holds its upper end.
        counts: (b,) rows in each.
        confidence: (b,) their mean probability, 0 where there are none.
        accuracy: (b,) share that is right, 0 where there are none.
        rms_calibration_error: Root mean square distance of the two over rows, less what chance adds, with its 95 % interval.
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    rms_calibration_error: Interval


def reliability(y: NDArray[np.int64], proba: NDArray[np.float64]) -> Reliability:
    """Bin (n, k) probabilities by how sure they are, and compare with how often they are right.

    Args:
        y: (n,) columns of the true classes.
        proba: (n, k) probabilities.
    """
    top, hit = proba.max(axis=1), proba.argmax(axis=1) == y
    place = bin_of(top)
    counts = np.bincount(place, minlength=BINS).astype(np.int64)
    sure, right = (np.bincount(place, weights, BINS) for weights in (top, hit))
    filled = np.maximum(counts, 1)
    error = rms_calibration_error(top, hit)
    return Reliability(np.linspace(0, 1, BINS + 1), counts, sure / filled, right / filled, error)


@dataclass(frozen=True)
class Calibration:
    """What a temperature did to the probabilities of some rows.

    Attributes:
        temperature: What divided the scores.
        before: Reliability of softmax(scores), or of the head's own probabilities.
        after: Reliability of what the temperature made of them.
    """

    temperature: float
    before: Reliability
    after: Reliability
