"""Debiased root mean square calibration error, and its confidence interval."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import gammainc
from scipy.stats import norm, poisson

from frostline.classifiers.protocol.intervals import Interval

BINS = 15  # equal-width bins, as in Guo et al. 2017
_FLOOR = 1e-12  # smallest variance of a row, used for probabilities of 0 and 1
_FLAT = 1e-4  # skewness below which the distribution is treated as normal
_FEW = 5  # expected wrong rows below which the continuous approximation fails
_PSEUDO = 2  # rows of each outcome added to a bin for the variance of its share (Agresti & Coull 1998)


def bin_of(sure: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the (n,) int64 bin of each probability, 0 to `BINS` - 1; a bin includes its upper edge."""
    bins: NDArray[np.int64] = np.clip(np.ceil(sure * BINS).astype(np.int64) - 1, 0, BINS - 1)
    return bins


def rms_calibration_error(
    sure: NDArray[np.float64], hit: NDArray[np.bool_], confidence: float = 0.95
) -> Interval:
    """Compute the root mean square calibration error of the most probable class, and its confidence interval.

    The estimand is ``sqrt(sum_b P(b) (P(hit | b) - E[sure | b])^2)`` over `BINS` fixed bins b of equal width, in
    the population of the rows. (The expected calibration error, ECE, is the mean absolute gap in place of the root
    mean square, and therefore never larger. Neither includes gaps that cancel within a bin.)

    The plug-in estimate of either error is biased upwards, because chance alone causes a gap in every bin. For a
    calibrated head and 300 test rows the bias is about 0.06. This function estimates the mean square by a
    U-statistic, the products of different rows of a bin, which is unbiased (the debiased estimator of Kumar, Liang
    & Ma 2019, and the statistic of Lee, Huang, Hassani & Dobriban 2023). The value is its square root, or 0 if it
    is negative. Bins with a single row are ignored.

    The interval inverts a test. For each hypothetical error, the statistic is approximated by a gamma distribution
    with the same mean, variance and third moment (as Imhof 1961 approximates quadratic forms). If an error is so
    small that the probability of a negative statistic exceeds a tail, it is tested from above only. The coverage
    then does not rise near 0, and no interval is empty (as Feldman & Cousins 1998 unify one-sided and two-sided
    intervals). A lower end of 0 means that the rows show no significant miscalibration.
    `benchmarks/calibration.py` measures the coverage.

    Args:
        sure: (n,) probability of the most probable class.
        hit: (n,) bool, whether the most probable class is the true one.
        confidence: Coverage of the interval.

    Returns:
        The error and its interval, which always contains the error; the interval is 0 to 1 if no bin has two rows.
    """
    bins = _Bins.of(sure, hit)
    if bins is None:
        return Interval(0.0, 0.0, 1.0)
    tail = (1 - confidence) / 2
    square = min(max(bins.square, 0.0), 1.0)
    reach = bins.error_at(0.0, tail)
    low = max(bins.error_at(bins.square, 1 - tail), min(bins.error_at(bins.square, 1 - 2 * tail), reach))
    if _is_chance(sure, hit, tail):
        low = 0.0
    value, low, high = np.sqrt([square, min(low, square), bins.error_at(square, tail)]).tolist()
    return Interval(value, low, high)


def _is_chance(sure: NDArray[np.float64], hit: NDArray[np.bool_], tail: float) -> bool:
    """Return whether wrong (or correct) rows are too rare for the gamma approximation, and their number is plausible."""
    expected, seen = float((1 - sure).sum()), int((~hit).sum())
    if expected > len(hit) / 2:
        expected, seen = len(hit) - expected, len(hit) - seen
    return expected < _FEW and tail < poisson.cdf(seen, expected) and tail < poisson.sf(seen - 1, expected)


@dataclass(frozen=True)
class _Bins:
    """Estimate of the mean square error from the bins with at least two rows, and its distribution.

    Attributes:
        rows: Number of rows in these bins.
        square: Estimated mean square error; may be negative by chance.
        variance: Variance of `rows` times the estimate for a calibrated head.
        third: Third central moment of `rows` times the estimate for a calibrated head.
        spread: Variance of the outcome of a row, averaged with the error as weight.
        squared_spread: Squared variance of the outcome of a row, averaged with the same weights.
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
        """Return the statistics of rows, or None if no bin has two rows."""
        bins, gap = bin_of(sure), hit - sure
        noise = np.maximum(sure * (1 - sure), _FLOOR)  # variance of the outcome for a calibrated head
        counts = np.bincount(bins, minlength=BINS)
        kept = counts >= 2
        if not kept.any():
            return None
        n = counts[kept]
        gaps, squares, hits, variances, skews = (
            np.bincount(bins, each, BINS)[kept] / n
            for each in (gap, gap**2, hit, noise, noise * (1 - 2 * sure))
        )
        # Moments of the sum over pairs of different rows, (sum gap)^2 - sum gap^2, divided by n - 1
        products = n * (n * gaps**2 - squares) / (n - 1)
        variance = 2 * n / (n - 1) * variances**2
        third = (8 * n * (n - 2) * variances**3 + 4 * n * skews**2) / (n - 1) ** 2
        # Weight bins by the observed gaps plus their expected chance part, so that no bin has weight 0.
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
        """Return the mean square error, 0 to 1, at which P(estimate <= square) equals `probability`."""

        def excess(error: float) -> float:
            return self._below(square, error) - probability

        if excess(0.0) <= 0:
            return 0.0
        return 1.0 if excess(1.0) > 0 else float(brentq(excess, 0.0, 1.0))

    def _below(self, square: float, error: float) -> float:
        """Return P(estimate <= square) for a given mean square error."""
        total = self.rows * error
        variance = self.variance + 4 * self.spread * total + self.uneven * total * error
        skewness = (self.third + 24 * self.squared_spread * total) / variance**1.5
        standard = self.rows * (square - error) / np.sqrt(variance)
        if skewness < _FLAT:  # limit for skewness 0
            return float(norm.cdf(standard))
        shape = 4 / skewness**2
        return float(gammainc(shape, max(shape + np.sqrt(shape) * standard, 0.0)))
