"""By how much a head's confidence misses how often it is right: an estimate without bias, and its interval."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import gammainc
from scipy.stats import norm, poisson

from frostline.classifiers.protocol.intervals import Interval

BINS = 15  # of equal width, as in Guo et al. 2017
_FLOOR = 1e-12  # variance of a row that is said to be certain
_FLAT = 1e-4  # skewness of a normal distribution
_FEW = 5  # expected wrong rows, too few for a distribution that is continuous
_PSEUDO = 2  # rows of each outcome added to a bin for the variance of its share (Agresti & Coull 1998)


def bin_of(sure: NDArray[np.float64]) -> NDArray[np.int64]:
    """(n,) bin, 0 to `BINS` - 1, of each probability; a bin holds its upper end."""
    bins: NDArray[np.int64] = np.clip(np.ceil(sure * BINS).astype(np.int64) - 1, 0, BINS - 1)
    return bins


def rms_calibration_error(
    sure: NDArray[np.float64], hit: NDArray[np.bool_], confidence: float = 0.95
) -> Interval:
    """Root mean square calibration error of the most probable class, and its confidence interval.

    The estimand is ``sqrt(sum_b P(b) (P(hit | b) - E[sure | b])^2)`` over `BINS` fixed bins b of equal width, in the
    population that the rows are drawn from. (The expected calibration error, ECE, is the mean absolute gap in place of
    the root mean square, so that it is never larger. Both leave out what cancels within a bin.)

    The plug-in estimate of either is biased upwards, since chance alone leaves a gap in every bin: of a calibrated head with
    300 test rows it is about 0.06. Here the mean square is estimated by a U-statistic, products of different rows of
    a bin, which has no bias (the debiased estimator of Kumar, Liang & Ma 2019, and the statistic of Lee, Huang, Hassani &
    Dobriban 2023); the value is its root, or 0 where it is negative. Bins of a single row are left out.

    The interval inverts a test. For each hypothetical error, the statistic is taken as gamma distributed, with the mean,
    variance and third moment that it has then (as Imhof 1961 approximates quadratic forms). Errors so small that the
    statistic falls below 0 more often than a tail allows are tested from above alone, so that coverage does not rise near 0
    and no interval is empty (as Feldman & Cousins 1998 unify one-sided and two-sided intervals). A low end of 0 means that
    the rows do not show any miscalibration. `benchmarks/calibration.py` measures the coverage.

    Args:
        sure: (n,) probability of the most probable class.
        hit: (n,) whether that is the true one.
        confidence: Coverage of the interval.

    Returns:
        The error and its interval, which always holds it; 0 to 1 where no bin has two rows.
    """
    bins = _Bins.of(sure, hit)
    if bins is None:
        return Interval(0.0, 0.0, 1.0)
    tail = (1 - confidence) / 2
    square = min(max(bins.square, 0.0), 1.0)
    reach = bins.error_at(0.0, tail)
    low = max(bins.error_at(bins.square, 1 - tail), min(bins.error_at(bins.square, 1 - 2 * tail), reach))
    if _is_luck(sure, hit, tail):
        low = 0.0
    value, low, high = np.sqrt([square, min(low, square), bins.error_at(square, tail)]).tolist()
    return Interval(value, low, high)


def _is_luck(sure: NDArray[np.float64], hit: NDArray[np.bool_], tail: float) -> bool:
    """Whether so few rows are expected to be wrong, or right, that the statistic has no density, and their number is no surprise."""
    expected, seen = float((1 - sure).sum()), int((~hit).sum())
    if expected > len(hit) / 2:
        expected, seen = len(hit) - expected, len(hit) - seen
    return expected < _FEW and tail < poisson.cdf(seen, expected) and tail < poisson.sf(seen - 1, expected)


@dataclass(frozen=True)
class _Bins:
    """The estimate of the mean square error from the bins of two rows or more, and its distribution.

    Attributes:
        rows: In all of them.
        square: The estimate; below 0 by chance.
        variance: Of `rows` times the estimate, where the head is calibrated.
        third: Its third central moment then.
        spread: Variance of a row's outcome, averaged over where the error is.
        squared_spread: Its square, averaged likewise.
        uneven: Squared coefficient of variation of the squared gap over rows.
    """

    rows: int
    square: float
    variance: float
    third: float
    spread: float
    squared_spread: float
    uneven: float

    @classmethod
    def of(cls, sure: NDArray[np.float64], hit: NDArray[np.bool_]) -> Self | None:
        """From rows; None where no bin has two."""
        place, gap = bin_of(sure), hit - sure
        noise = np.maximum(sure * (1 - sure), _FLOOR)  # of a calibrated head
        counts = np.bincount(place, minlength=BINS)
        kept = counts >= 2
        if not kept.any():
            return None
        n = counts[kept]
        gaps, squares, hits, variances, skews = (
            np.bincount(place, each, BINS)[kept] / n
            for each in (gap, gap**2, hit, noise, noise * (1 - 2 * sure))
        )
        # Moments of the sum over pairs of different rows, (sum gap)^2 - sum gap^2, divided by n - 1.
        products = n * (n * gaps**2 - squares) / (n - 1)
        variance = 2 * n / (n - 1) * variances**2
        third = (8 * n * (n - 2) * variances**3 + 4 * n * skews**2) / (n - 1) ** 2
        # Where the error is: by the gaps seen, and by their chance part, so that no bin counts for nothing.
        error = n * gaps**2 + variances
        error /= error.sum()
        right = (n * hits + _PSEUDO) / (n + 2 * _PSEUDO)
        spread = right * (1 - right)
        rows = int(n.sum())
        return cls(
            rows,
            float(products.sum() / rows),
            float(variance.sum()),
            float(third.sum()),
            float(error @ spread),
            float(error @ spread**2),
            float((error**2 / n).sum() * rows - 1),
        )

    def error_at(self, square: float, probability: float) -> float:
        """The mean square error with which estimates of at most `square` have this probability; 0 to 1."""

        def excess(error: float) -> float:
            return self._below(square, error) - probability

        if excess(0.0) <= 0:
            return 0.0
        return 1.0 if excess(1.0) > 0 else float(brentq(excess, 0.0, 1.0))

    def _below(self, square: float, error: float) -> float:
        """Probability of an estimate of at most `square`, with this mean square error."""
        total = self.rows * error
        variance = self.variance + 4 * self.spread * total + self.uneven * total * error
        skewness = (self.third + 24 * self.squared_spread * total) / variance**1.5
        standard = self.rows * (square - error) / np.sqrt(variance)
        if skewness < _FLAT:  # the limit
            return float(norm.cdf(standard))
        shape = 4 / skewness**2
        return float(gammainc(shape, max(shape + np.sqrt(shape) * standard, 0.0)))
