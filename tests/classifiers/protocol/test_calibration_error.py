"""The calibration error has no bias, and its interval covers the population's as often as it says."""

from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from frostline.classifiers.protocol.calibration_error import BINS, bin_of, rms_calibration_error
from frostline.classifiers.protocol.metrics import score


def drawn(n, factor, rng):
    """Labels of n rows of 5 classes, and probabilities whose logits are `factor` times the true ones."""
    logits = rng.normal(size=(n, 5)) * 1.5
    true, said = np.exp(logits), np.exp(factor * logits)
    true /= true.sum(axis=1, keepdims=True)
    said /= said.sum(axis=1, keepdims=True)
    y = (rng.random((n, 1)) > true.cumsum(axis=1)).sum(axis=1).clip(max=4)
    return y, said, true


def population(factor):
    """The error itself, from the true probabilities of many rows."""
    _, said, true = drawn(400_000, factor, np.random.default_rng(99))
    top = said.argmax(axis=1)[:, None]
    sure, right = (np.take_along_axis(each, top, axis=1)[:, 0] for each in (said, true))
    gaps, counts = np.bincount(bin_of(sure), right - sure, BINS), np.bincount(bin_of(sure), minlength=BINS)
    return float(np.sqrt((gaps**2 / np.maximum(counts, 1)).sum() / len(sure)))


@pytest.mark.parametrize("factor", [1, 1.25, 2.5], ids=["calibrated", "slightly", "strongly"])
def test_the_interval_covers_the_error_of_the_population(factor):
    """Of 300 intervals 285 should; fewer than 271 or more than 297 do with probability below 1e-3 each."""
    truth, rng, covered = population(factor), np.random.default_rng(0), 0
    for _ in range(300):
        y, said, _ = drawn(300, factor, rng)
        found = score(y, said, classes=list("abcde")).rms_calibration_error
        assert 0 <= found.low <= found.value <= found.high <= 1
        covered += found.low <= truth <= found.high
    assert stats.binom.ppf(1e-3, 300, 0.95) <= covered <= stats.binom.ppf(1 - 1e-3, 300, 0.95)


def test_the_square_is_the_mean_product_of_different_rows_of_a_bin():
    rng = np.random.default_rng(3)
    sure, hit = rng.uniform(0.5, 1, 60), rng.random(60) < 0.4
    gaps, total, rows = hit - sure, 0.0, 0
    for number in range(BINS):
        own = gaps[bin_of(sure) == number]
        if len(own) > 1:
            total += sum(a * b for a, b in permutations(own, 2)) / (len(own) - 1)
            rows += len(own)
    assert rms_calibration_error(sure, hit).value == pytest.approx(np.sqrt(total / rows))


def test_more_rows_and_less_confidence_give_a_narrower_interval():
    rng = np.random.default_rng(1)
    y, said, _ = drawn(2000, 2, rng)
    sure, hit = said.max(axis=1), said.argmax(axis=1) == y
    few, many = rms_calibration_error(sure[:200], hit[:200]), rms_calibration_error(sure, hit)
    half = rms_calibration_error(sure, hit, confidence=0.5)
    assert many.high - many.low < (few.high - few.low) / 2
    assert many.low < half.low < half.value < half.high < many.high


@pytest.mark.parametrize(
    ("sure", "hit", "expected"),
    [
        ([0.7], [True], (0, 0, 1)),  # no pair of rows says anything
        ([0.6, 0.9], [True, True], (0, 0, 1)),
        ([0.5, 0.5], [True, False], (0, 0, 1)),  # a distribution without skewness
        ([1.0] * 50, [True] * 50, (0, 0, 0.0763517)),  # about 4 / n: a share of which 50 rows have none
        ([1.0] * 50, [False] * 50, (1, 0.9480182, 1)),
    ],
)
def test_rows_at_the_limits(sure, hit, expected):
    assert rms_calibration_error(np.array(sure), np.array(hit)) == pytest.approx(expected, abs=1e-6)


def test_absent_rare_mistakes_show_no_miscalibration():
    """A calibrated head that says 0.999 of 20 rows is right about all of them 98 times of 100."""
    found = rms_calibration_error(np.full(20, 0.999), np.ones(20, bool))
    assert found.low == 0
    assert rms_calibration_error(np.full(20, 0.999), np.arange(20) > 1).low > 0  # two mistakes are no luck
