"""Metrics with closed-form confidence intervals that keep their coverage near the ends of the range."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

_PSEUDO = 2  # number of correct pseudo-rows, and of wrong ones, in total
_CLIP = float(np.finfo(np.float64).eps)  # smallest probability in the log loss, as in scikit-learn
_LARGEST_LOSS = -math.log(_CLIP)
_FEW = 10  # below this number of wrong rows, the sample does not show the loss of a wrong row


class Interval(NamedTuple):
    """An estimate from a sample of rows, with its confidence interval."""

    value: float
    low: float
    high: float


def share(hits: int, rows: int, confidence: float = 0.95) -> Interval:
    """Return the proportion of correct rows, with the score interval of Wilson 1927.

    The average coverage is the nominal one. For a proportion within about 1 / `rows` of 0 or 1, the coverage can
    fall to 0.90 at a confidence of 0.95 (Brown, Cai & DasGupta 2001).

    Args:
        hits: Number of correct rows.
        rows: Number of rows, at least 1.
        confidence: Coverage of the interval.
    """
    found = stats.binomtest(hits, rows).proportion_ci(confidence, method="wilson")
    return Interval(hits / rows, float(found.low), float(found.high))


def log_loss(y: NDArray[np.int64], proba: NDArray[np.float64], confidence: float = 0.95) -> Interval:
    """Return the mean of -log P(true class), with an interval that also holds for heads that are rarely wrong.

    The interval is the t interval with the skewness-removing transformation of Hall 1992. With fewer than 10 wrong
    rows, the sample contains too little information on the loss of wrong rows. The upper end is then at least the
    loss at the upper limit of the number of wrong rows (Garwood 1936, for Poisson counts). That loss assumes that
    rows are wrong in proportion to the probability of all classes but the predicted one, and are distributed over
    the other classes by their probabilities.

    Args:
        y: (n,) column indices of the true classes.
        proba: (n, k) probabilities.
        confidence: Coverage of the interval.
    """
    found = mean(row_log_losses(y, proba), _LARGEST_LOSS, confidence)
    first = proba.argmax(axis=1)
    wrong = int((first != y).sum())
    if wrong >= _FEW:
        return found
    right = row_log_losses(first, proba)
    others = np.clip(proba, _CLIP, 1)
    others[np.arange(len(y)), first] = 0
    doubt = others.sum(axis=1)
    loss = special.entr(others).sum(axis=1)
    most = float(stats.chi2.ppf((1 + confidence) / 2, 2 * (wrong + 1))) / 2
    more = most / doubt.sum() * (loss - doubt * right).mean()
    return found._replace(high=max(found.high, min(float(right.mean()) + more, _LARGEST_LOSS)))


def row_log_losses(y: NDArray[np.int64], proba: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (n,) values of -log P(true class), with probabilities clipped as in scikit-learn."""
    losses: NDArray[np.float64] = -np.log(np.clip(proba[np.arange(len(y)), y], _CLIP, 1))
    return losses


def mean(values: NDArray[np.float64], largest: float, confidence: float = 0.95) -> Interval:
    """Return the mean of skewed values, with the skewness-corrected t interval of Hall 1992.

    Args:
        values: (n,) values from 0 to `largest`.
        largest: Upper bound of the values.
        confidence: Coverage of the interval.
    """
    n, centre = len(values), float(values.mean())
    if n == 1:
        return Interval(centre, 0.0, largest)
    deviation = float(values.std(ddof=1))
    if deviation == 0:
        return Interval(centre, centre, centre)
    gaps = (values - centre) / deviation  # the skewness of scipy warns if values are nearly equal
    skewness = float((gaps**3).mean() / (gaps**2).mean() ** 1.5)
    reach = float(stats.t.ppf((1 + confidence) / 2, n - 1))
    low, high = (centre - deviation * _inverse(x, skewness, n) for x in (reach, -reach))
    return Interval(centre, max(low, 0.0), min(high, largest))


def _inverse(x: float, skewness: float, n: int) -> float:
    """Return the inverse of the transformation of Hall 1992, divided by the square root of n."""
    if abs(skewness) < 1e-6:  # limit for skewness 0
        return x / math.sqrt(n)
    cubed = 1 + skewness * (x / math.sqrt(n) - skewness / (6 * n))
    return 3 / skewness * (math.cbrt(cubed) - 1)


def balanced_accuracy(confusion: NDArray[np.int64], confidence: float = 0.95) -> Interval:
    """Return the mean recall over the classes that occur, with the adjusted Wald interval of Price & Bonett 2004.

    Args:
        confusion: (k, k) number of rows of true class i that were predicted as class j.
        confidence: Coverage of the interval.
    """
    support = confusion.sum(axis=1)
    occurs = support > 0
    n, hits, count = support[occurs], confusion.diagonal()[occurs], int(occurs.sum())
    added = _PSEUDO / count
    recall = (hits + added) / (n + 2 * added)
    variance = (recall * (1 - recall) / (n + 2 * added)).sum() / count**2
    return _wald((hits / n).mean(), recall.mean(), variance, confidence)


def macro_f1(confusion: NDArray[np.int64], confidence: float = 0.95) -> Interval:
    """Return the mean F1 over the classes that occur or are predicted, with an adjusted Wald interval.

    The variance is that of the delta method (Takahashi, Yamamoto, Kuchiba & Koyama 2022) on an adjusted confusion
    matrix. The adjustment adds two correct and two wrong rows, spread evenly, as Price & Bonett 2004 do for
    balanced accuracy.

    Args:
        confusion: (k, k) number of rows of true class i that were predicted as class j.
        confidence: Coverage of the interval.
    """
    used = confusion.sum(axis=0) + confusion.sum(axis=1) > 0
    seen, count = confusion[np.ix_(used, used)], int(used.sum())
    if count == 1:  # every row is correct
        return share(int(seen.sum()), int(seen.sum()), confidence)
    added = np.full((count, count), _PSEUDO / (count * max(count - 1, 1)))
    np.fill_diagonal(added, _PSEUDO / count)
    adjusted = seen + added
    f1, total = _f1(adjusted)
    # Derivative of the sum of the F1 scores by the number of rows in each cell.
    slope = f1 / total
    moves = -slope[:, None] - slope
    moves[np.diag_indices(count)] += 2 / total
    variance = (adjusted * moves**2).sum() / count**2
    return _wald(_f1(seen)[0].mean(), f1.mean(), variance, confidence)


def _f1(confusion: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the (k,) F1 score of each class and its denominator, true plus predicted rows."""
    total = confusion.sum(axis=0) + confusion.sum(axis=1)
    return 2 * confusion.diagonal() / total, total


def _wald(value: float, centre: float, variance: float, confidence: float) -> Interval:
    """Return the Wald interval around the adjusted centre, clipped to [0, 1] and extended to contain the value."""
    reach = float(stats.norm.ppf((1 + confidence) / 2)) * math.sqrt(variance)
    low, high = max(0.0, centre - reach), min(1.0, centre + reach)
    return Interval(float(value), float(min(low, value)), float(max(high, value)))
