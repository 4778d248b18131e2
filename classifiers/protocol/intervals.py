"""Numbers estimated from rows, with confidence intervals that hold near the ends of what is possible, too."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

_PSEUDO = 2  # right rows, and wrong ones, added in all
_CLIP = float(np.finfo(np.float64).eps)  # least probability that log loss sees, as in scikit-learn
_FEW = 10  # wrong rows, of which the sample says too little of what a wrong row costs


class Interval(NamedTuple):
    """A number estimated from rows, and the interval that covers the population's with a stated confidence."""

    value: float
    low: float
    high: float


def share(hits: int, rows: int, confidence: float = 0.95) -> Interval:
    """The share of rows that are right, with the score interval of Wilson 1927.

    Its coverage is the stated one on average; of a share within about 1 / `rows` of 0 or 1 it can fall to 0.90 for a
    confidence of 0.95 (Brown, Cai & DasGupta 2001).

    Args:
        hits: Rows that are right.
        rows: All rows, at least 1.
        confidence: Coverage of the interval.
    """
    found = stats.binomtest(hits, rows).proportion_ci(confidence, method="wilson")
    return Interval(hits / rows, float(found.low), float(found.high))


def log_loss(y: NDArray[np.int64], proba: NDArray[np.float64], confidence: float = 0.95) -> Interval:
    """The mean of -log P(true class), with an interval that holds for heads that are rarely wrong, too.

    It is the t interval from which Hall 1992 removes the skewness by a transformation. With fewer than 10 wrong rows the
    sample hardly shows, or doesn't show at all, what the rare wrong rows cost. Then the upper end is at least the loss at
    the upper limit of the number of wrong rows (Garwood 1936, for Poisson counts), where rows are wrong in proportion to the
    probability that the head gives to all but its first class, and are then of the other classes as the head says.

    Args:
        y: (n,) true classes, indices of columns.
        proba: (n, k) probabilities.
        confidence: Coverage of the interval.
    """
    n = len(y)
    clipped = np.clip(proba, _CLIP, 1)
    largest = -math.log(_CLIP)
    found = mean(-np.log(clipped[np.arange(n), y]), largest, confidence)
    first = proba.argmax(axis=1)
    wrong = int((first != y).sum())
    if wrong >= _FEW:
        return found
    costs = -np.log(clipped)
    right = costs[np.arange(n), first]
    weighted = clipped * costs
    weighted[np.arange(n), first] = 0
    clipped[np.arange(n), first] = 0
    doubt = clipped.sum(axis=1)
    most = float(stats.chi2.ppf((1 + confidence) / 2, 2 * (wrong + 1))) / 2
    more = most / doubt.sum() * (weighted.sum(axis=1) - doubt * right).mean()
    bound = min(float(right.mean()) + more, largest)
    return found._replace(high=max(found.high, bound))


def mean(values: NDArray[np.float64], largest: float, confidence: float = 0.95) -> Interval:
    """The mean of skewed values, with the t interval from which Hall 1992 removes the skewness by a transformation.

    Args:
        values: (n,) from 0 to `largest`.
        largest: What no value exceeds.
        confidence: Coverage of the interval.
    """
    n, centre = len(values), float(values.mean())
    if n == 1:
        return Interval(centre, 0.0, largest)
    deviation = float(values.std(ddof=1))
    if deviation == 0:
        return Interval(centre, centre, centre)
    gaps = (values - centre) / deviation  # scipy's skewness warns where values are nearly equal
    skewness = float((gaps**3).mean() / (gaps**2).mean() ** 1.5)
    reach = float(stats.t.ppf((1 + confidence) / 2, n - 1))
    low, high = (centre - deviation * _inverse(x, skewness, n) for x in (reach, -reach))
    return Interval(centre, max(low, 0.0), min(high, largest))


def _inverse(x: float, skewness: float, n: int) -> float:
    """Hall's transformation undone, over the root of n."""
    if abs(skewness) < 1e-6:  # the limit
        return x / math.sqrt(n)
    cubed = 1 + skewness * (x / math.sqrt(n) - skewness / (6 * n))
    return 3 / skewness * (math.cbrt(cubed) - 1)


def balanced_accuracy(confusion: NDArray[np.int64], confidence: float = 0.95) -> Interval:
    """The mean recall over the classes that occur, with the adjusted Wald interval of Price & Bonett 2004.

    Args:
        confusion: (k, k) rows of true class i predicted as class j.
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
    """The mean F1 over the classes that occur or are predicted, with an adjusted Wald interval.

    Its variance is that of the delta method (Takahashi, Yamamoto, Kuchiba & Koyama 2022), of a confusion matrix to which two
    right rows and two wrong ones are added, spread evenly, as Price & Bonett 2004 add them for balanced accuracy.

    Args:
        confusion: (k, k) rows of true class i predicted as class j.
        confidence: Coverage of the interval.
    """
    used = confusion.sum(axis=0) + confusion.sum(axis=1) > 0
    seen, count = confusion[np.ix_(used, used)], int(used.sum())
    if count == 1:  # and every row is right
        return share(int(seen.sum()), int(seen.sum()), confidence)
    added = np.full((count, count), _PSEUDO / (count * max(count - 1, 1)))
    np.fill_diagonal(added, _PSEUDO / count)
    adjusted = seen + added
    f1, total = _f1(adjusted)
    # By how much one more row of each cell moves the sum of the F1s.
    slope = f1 / total
    moves = -slope[:, None] - slope
    moves[np.diag_indices(count)] += 2 / total
    variance = (adjusted * moves**2).sum() / count**2
    return _wald(_f1(seen)[0].mean(), f1.mean(), variance, confidence)


def _f1(confusion: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(k,) F1 of each class, and the rows that are or are said to be of it, together its denominator."""
    total = confusion.sum(axis=0) + confusion.sum(axis=1)
    return 2 * confusion.diagonal() / total, total


def _wald(value: float, centre: float, variance: float, confidence: float) -> Interval:
    """Around the adjusted centre, within 0 and 1, and wide enough to hold the value."""
    reach = float(stats.norm.ppf((1 + confidence) / 2)) * math.sqrt(variance)
    low, high = max(0.0, centre - reach), min(1.0, centre + reach)
    return Interval(float(value), float(min(low, value)), float(max(high, value)))
