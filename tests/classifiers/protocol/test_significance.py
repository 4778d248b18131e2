"""Paired tests give the published values, and reject a true null hypothesis as seldom as they say."""

import numpy as np
import pytest
from scipy import stats

from frostline.classifiers.errors import MetricsError
from frostline.classifiers.protocol.significance import corrected_resampled_t, holm, mcnemar


def outcomes(both, only_a, only_b, neither):
    counts = (both, only_a, only_b, neither)
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


def test_mcnemar_gives_the_published_values():
    """Table 1 of Fagerland, Lydersen & Laake 2013 (airway hyper-responsiveness): 7 and 1 discordant pairs."""
    a, b = outcomes(1, 1, 7, 12)
    assert mcnemar(a, b, method="exact").pvalue == pytest.approx(0.0703, abs=5e-5)
    assert mcnemar(a, b, method="mid-p").pvalue == pytest.approx(0.0391, abs=5e-5)
    result = mcnemar(a, b)
    assert (result.only_a, result.only_b, result.method) == (1, 7, "mid-p")


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 5), (3, 4), (12, 30), (200, 260)])
def test_mcnemar_agrees_with_its_definition(only_a, only_b):
    a, b = outcomes(50, only_a, only_b, 20)
    total, outcome = only_a + only_b, np.arange(only_a + only_b + 1)
    chances = stats.binom.pmf(outcome, total, 0.5)
    gap = np.abs(outcome - total / 2)
    seen = abs(only_a - total / 2)
    assert mcnemar(a, b, method="exact").pvalue == pytest.approx(chances[gap >= seen].sum())
    mid = chances[gap > seen].sum() + chances[gap == seen].sum() / 2
    assert mcnemar(a, b, method="mid-p").pvalue == pytest.approx(mid)
    for method in ("exact", "mid-p"):
        assert mcnemar(b, a, method=method).pvalue == pytest.approx(mcnemar(a, b, method=method).pvalue)


@pytest.mark.parametrize(("discordant", "chance"), [(0, 0), (1, 1 / 2), (6, 231 / 1024)])
def test_equal_classifiers(discordant, chance):
    """Fagerland et al. 2013, supplement: where both are right equally often, mid-p is 1 - pmf / 2."""
    a, b = outcomes(5, discordant, discordant, 2)
    assert mcnemar(a, b, method="exact").pvalue == pytest.approx(1)
    assert mcnemar(a, b).pvalue == pytest.approx(1 - chance / 2)


def test_many_rows_agree_with_the_chi_square_test():
    a, b = outcomes(100_000, 48_900, 49_500, 0)
    assert mcnemar(a, b).pvalue == pytest.approx(stats.chi2.sf(600**2 / 98_400, 1), rel=1e-3)


@pytest.mark.parametrize("discordant", [3, 8, 20, 60, 199])
def test_mcnemar_keeps_nominal_level(discordant):
    """The type I error given the number of discordant rows, from all outcomes and their probabilities."""
    chances = stats.binom.pmf(np.arange(discordant + 1), discordant, 0.5)
    rates = {}
    for method in ("exact", "mid-p"):
        pvalues = [
            mcnemar(*outcomes(1, k, discordant - k, 1), method=method).pvalue for k in range(discordant + 1)
        ]
        rates[method] = chances[np.array(pvalues) <= 0.05].sum()
    assert rates["exact"] <= 0.05
    assert (
        rates["exact"] <= rates["mid-p"] <= 0.075
    )  # given the discordant rows; over their number it is below 0.05


def test_mid_p_keeps_its_level_over_all_outcomes():
    """100 rows, discordant with probability 0.2: the unconditional type I error, as Fagerland et al. compute it."""
    numbers = np.arange(101)
    rate = 0.0
    for discordant, chance in zip(numbers, stats.binom.pmf(numbers, 100, 0.2), strict=True):
        if chance > 1e-9:
            outcome = np.arange(discordant + 1)
            pvalues = [mcnemar(*outcomes(1, k, discordant - k, 1)).pvalue for k in outcome.tolist()]
            rate += chance * stats.binom.pmf(outcome, discordant, 0.5)[np.array(pvalues) <= 0.05].sum()
    assert 0.035 <= rate <= 0.05


def test_the_resampled_t_test_agrees_with_its_formula():
    """Nadeau & Bengio 2003, equation 9, written out; without the correction it is the paired t-test."""
    differences = np.array([0.012, 0.003, 0.02, -0.004, 0.011, 0.009, 0.016, 0.001, 0.007, 0.013])
    result = corrected_resampled_t(differences, 1 / 9)
    variance = ((differences - differences.mean()) ** 2).sum() / 9
    statistic = differences.mean() / np.sqrt((1 / 10 + 1 / 9) * variance)
    assert result.statistic == pytest.approx(statistic)
    assert result.pvalue == pytest.approx(2 * stats.t.sf(statistic, 9))
    assert (result.mean, result.degrees) == (pytest.approx(differences.mean()), 9)

    plain = stats.ttest_1samp(differences, 0)
    limit = corrected_resampled_t(differences, 1e-12)
    assert limit.pvalue == pytest.approx(plain.pvalue)
    interval = plain.confidence_interval(0.95)
    assert (limit.low, limit.high) == (pytest.approx(interval.low), pytest.approx(interval.high))


def test_the_correction_restores_the_error_rate_of_overlapping_training_sets():
    """Two nearest-mean rules of equal accuracy, on features that tell equally much, compared by 10-fold CV."""
    rng = np.random.default_rng(0)
    plain, corrected = 0, 0
    trials = 400
    for _ in range(trials):
        y = rng.permutation(np.repeat([0, 1], 50))
        features = rng.normal(size=(2, 100)) + y
        folds = np.arange(100) % 10
        differences = []
        for fold in range(10):
            train, test = folds != fold, folds == fold
            middles = [(x[train & (y == 0)].mean() + x[train & (y == 1)].mean()) / 2 for x in features]
            right = [
                np.mean((x[test] > middle) == y[test]) for x, middle in zip(features, middles, strict=True)
            ]
            differences.append(right[0] - right[1])
        if np.ptp(differences) == 0:
            continue
        plain += stats.ttest_1samp(differences, 0).pvalue <= 0.05
        corrected += corrected_resampled_t(differences, 1 / 9).pvalue <= 0.05
    assert corrected / trials <= 0.05
    assert corrected < plain


def test_the_corrected_test_keeps_its_level_where_its_assumption_holds():
    """Differences with the correlation that the correction supposes: test / (test + train)."""
    rng = np.random.default_rng(0)
    ratio, folds, trials = 1 / 9, 10, 2000
    shared = ratio / (1 + ratio)
    samples = np.sqrt(shared) * rng.normal(size=(trials, 1)) + np.sqrt(1 - shared) * rng.normal(
        size=(trials, folds)
    )
    results = [corrected_resampled_t(row, ratio) for row in samples]
    rejected = np.mean([result.pvalue <= 0.05 for result in results])
    covered = np.mean([result.low <= 0 <= result.high for result in results])
    assert rejected == pytest.approx(0.05, abs=0.015)
    assert covered == pytest.approx(0.95, abs=0.015)
    uncorrected = np.mean([stats.ttest_1samp(row, 0).pvalue <= 0.05 for row in samples[:500]])
    assert uncorrected > 0.1


def test_equal_differences():
    assert corrected_resampled_t([0.0, 0.0, 0.0], 0.25).pvalue == 1
    always = corrected_resampled_t([-0.5, -0.5, -0.5], 0.25)
    assert (always.pvalue, always.statistic, always.low, always.high) == (0, -np.inf, -0.5, -0.5)


def test_holm_gives_the_values_worked_out_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.5, 0.9, 0.4]), [1, 1, 1])
    assert holm([]).shape == (0,)


def test_holm_keeps_the_family_wise_error():
    rng = np.random.default_rng(0)
    families = rng.uniform(size=(3000, 6))
    assert np.mean([holm(family).min() <= 0.05 for family in families]) == pytest.approx(0.05, abs=0.015)
    assert np.mean(families.min(axis=1) <= 0.05) > 0.2


@pytest.mark.parametrize(
    "call",
    [
        lambda: mcnemar(np.ones(3, bool), np.ones(4, bool)),
        lambda: mcnemar(np.ones(3), np.ones(3)),
        lambda: mcnemar(np.zeros(0, bool), np.zeros(0, bool)),
        lambda: mcnemar(np.ones(3, bool), np.ones(3, bool), method="chi-square"),
        lambda: corrected_resampled_t([0.1], 0.25),
        lambda: corrected_resampled_t([0.1, np.nan], 0.25),
        lambda: corrected_resampled_t([0.1, 0.2], 0),
        lambda: corrected_resampled_t([0.1, 0.2], 0.25, confidence=1),
        lambda: holm([0.5, 1.5]),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(MetricsError, match="expected"):
        call()
