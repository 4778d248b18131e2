"""Paired significance tests of classifiers, and their correction for multiple comparisons."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from frostline.classifiers.errors import MetricsError


@dataclass(frozen=True)
class McNemar:
    """Result of McNemar's test of two classifiers on the same rows.

    Attributes:
        pvalue: Two-sided p-value.
        only_a: Number of rows that only the first classifier predicted correctly.
        only_b: Number of rows that only the second classifier predicted correctly.
        method: Version of the test.
    """

    pvalue: float
    only_a: int
    only_b: int
    method: Literal["mid-p", "exact"]


def mcnemar(
    correct_a: NDArray[np.bool_],
    correct_b: NDArray[np.bool_],
    *,
    method: Literal["mid-p", "exact"] = "mid-p",
) -> McNemar:
    """Test whether two classifiers have equal accuracy on the same rows (McNemar 1947).

    The test uses only the discordant rows, which exactly one classifier predicted correctly. Under the null
    hypothesis, this is either classifier with probability 1/2.

    Args:
        correct_a: (n,) bool, whether the first classifier is correct.
        correct_b: (n,) bool, whether the second classifier is correct on the same rows.
        method: ``mid-p``: the exact binomial test with half of the observed outcome's probability. Fagerland,
            Lydersen & Laake 2013 recommend it for any number of rows. It is nearly exact, and less conservative
            than ``exact`` and than the chi-square test with continuity correction. ``exact``: never exceeds the
            nominal level.

    Returns:
        The p-value and the numbers of discordant rows.

    Raises:
        MetricsError: The arrays are not boolean, differ in length or are empty, or the method is unknown.
    """
    a, b = np.asarray(correct_a), np.asarray(correct_b)
    if a.shape != b.shape or a.ndim != 1 or not a.size or a.dtype != np.bool_ or b.dtype != np.bool_:
        raise MetricsError(
            f"got outcomes of shape {a.shape} and {b.shape}, dtype {a.dtype} and {b.dtype}, expected two boolean "
            "arrays (n,), n > 0, that say whether each prediction is correct"
        )
    only_a, only_b = int(np.sum(a & ~b)), int(np.sum(b & ~a))
    if method not in ("mid-p", "exact"):
        raise MetricsError(f"method: got {method!r}, expected mid-p or exact")
    pvalue = _exact(only_a, only_b) - (_observed(only_a, only_b) if method == "mid-p" else 0)
    return McNemar(pvalue, only_a, only_b, method)


def _exact(only_a: int, only_b: int) -> float:
    total = only_a + only_b
    return float(stats.binomtest(only_a, total).pvalue) if total else 1.0


def _observed(only_a: int, only_b: int) -> float:
    """Return half the probability of all outcomes as uneven as the observed one (two outcomes, or one if it is even)."""
    total = only_a + only_b
    chance = float(stats.binom.pmf(only_a, total, 0.5)) if total else 0.0
    return chance / 2 if only_a == only_b else chance


@dataclass(frozen=True)
class ResampledT:
    """Result of the corrected resampled t-test of paired differences.

    Attributes:
        pvalue: Two-sided p-value.
        mean: Mean difference.
        low: Lower end of the confidence interval of the mean.
        high: Upper end of the confidence interval of the mean.
        statistic: The t statistic; infinite if the differences are equal and not zero.
        degrees: Degrees of freedom.
        confidence: Coverage of the interval.
    """

    pvalue: float
    mean: float
    low: float
    high: float
    statistic: float
    degrees: int
    confidence: float


def corrected_resampled_t(
    differences: NDArray[np.float64] | Sequence[float], test_train_ratio: float, *, confidence: float = 0.95
) -> ResampledT:
    """Test whether scores on the same resamples or folds differ (Nadeau & Bengio 2003).

    The training sets of different folds overlap. Their scores are therefore correlated, and the plain paired
    t-test rejects far too often. The corrected variance of the mean is (1 / J + test / train) times the variance
    of the J differences. With J = r k and test / train = 1 / (k - 1), this is the corrected test of Bouckaert &
    Frank 2004 for k-fold cross-validation repeated r times.

    Args:
        differences: (J,) score of the first minus score of the second classifier, one per resample or fold.
        test_train_ratio: Test rows per training row of a resample, e.g. 1 / 9 for 10 folds.
        confidence: Coverage of the interval.

    Returns:
        The p-value, and the mean difference with its interval.

    Raises:
        MetricsError: There are fewer than two differences, a difference is not finite, the ratio is not above 0,
            or the confidence is not in (0, 1).
    """
    values = np.asarray(differences, np.float64)
    if values.ndim != 1 or values.size < 2 or not np.isfinite(values).all():
        raise MetricsError(f"differences: got {values}, expected at least two finite numbers, one per fold")
    if not 0 < test_train_ratio < np.inf or not 0 < confidence < 1:
        raise MetricsError(
            f"got test_train_ratio={test_train_ratio} and confidence={confidence}, expected a ratio above 0, e.g. 0.25 "
            "for 5 folds, and a confidence between 0 and 1"
        )
    mean, degrees = float(values.mean()), values.size - 1
    error = float(np.sqrt((1 / values.size + test_train_ratio) * values.var(ddof=1)))
    statistic = mean / error if error else float(np.copysign(np.inf, mean)) if mean else 0.0
    reach = float(stats.t.ppf((1 + confidence) / 2, degrees)) * error
    pvalue = float(2 * stats.t.sf(abs(statistic), degrees))
    return ResampledT(pvalue, mean, mean - reach, mean + reach, statistic, degrees, confidence)


def holm(pvalues: NDArray[Any] | Sequence[float]) -> NDArray[np.float64]:
    """Adjust the p-values of multiple comparisons (Holm 1979).

    Rejecting the hypotheses with an adjusted p-value of at most alpha limits the family-wise error rate to alpha,
    for any dependence between the comparisons.

    Args:
        pvalues: (m,) p-values in [0, 1].

    Returns:
        (m,) float64 adjusted p-values, in the order of the input.

    Raises:
        MetricsError: A value is not in [0, 1].
    """
    values = np.asarray(pvalues, np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise MetricsError(f"p-values: got {values}, expected numbers between 0 and 1")
    order = np.argsort(values, kind="stable")
    steps = np.maximum.accumulate(values[order] * np.arange(values.size, 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(steps, 1)
    return adjusted
