"""Intervals of shares, means and confusion matrices against published numbers, and near the ends of what is possible."""

import numpy as np
import pytest
from scipy import special, stats
from sklearn.metrics import f1_score

from frostline.classifiers.protocol.intervals import balanced_accuracy, log_loss, macro_f1, mean, share


def pair_of(count, shares):
    """A population's confusion matrix, classes in these shares, of which `count` in 1,000 rows go to the next class."""
    wrong = count / 1000
    matrix = np.diag(shares) * (1 - wrong)
    return matrix + np.roll(np.diag(shares), 1, axis=1) * wrong


def covered(interval, truth, draws):
    found = np.array([interval(each)[1:] for each in draws])
    return int(((found[:, 0] <= truth) & (truth <= found[:, 1])).sum())


def expected(trials):
    """Counts that 93 to 98 % of trials leave with probability below 1e-3."""
    return stats.binom.ppf(1e-3, trials, 0.93), stats.binom.ppf(1 - 1e-3, trials, 0.98)


@pytest.mark.parametrize("wrong", [20, 100, 400])
def test_intervals_of_confusion_matrices_cover_the_population(wrong):
    matrix = pair_of(wrong, [0.5, 0.3, 0.2])
    recall = matrix.diagonal() / matrix.sum(axis=1)
    f1 = 2 * matrix.diagonal() / (matrix.sum(axis=0) + matrix.sum(axis=1))
    draws = np.random.default_rng(0).multinomial(100, matrix.ravel(), 500).reshape(500, 3, 3)
    least, most = expected(500)
    assert least <= covered(balanced_accuracy, recall.mean(), draws) <= most
    assert least <= covered(macro_f1, f1.mean(), draws) <= most


def test_the_interval_of_a_skewed_mean_covers_it():
    """The t interval does so 90 % of the time."""
    draws = np.random.default_rng(0).lognormal(0, 0.9, (500, 100))
    least, most = expected(500)
    assert least <= covered(lambda values: mean(values, np.inf), np.exp(0.9**2 / 2), draws) <= most


def test_the_share_of_wilson():
    # 81 of 263: Newcombe 1998, table I, method 3
    assert share(81, 263) == pytest.approx((81 / 263, 0.2553, 0.3662), abs=5e-5)
    assert share(29, 29) == pytest.approx((1, 0.8830, 1), abs=5e-5)


def test_values_are_those_of_the_rows_and_lie_within():
    rng = np.random.default_rng(1)
    for rows in (1, 5, 50):
        y, said = rng.integers(0, 6, (2, rows))
        said = np.where(rng.random(rows) < 0.6, y, said)
        confusion = np.bincount(y * 6 + said, minlength=36).reshape(6, 6)
        recalls = [(said[y == label] == label).mean() for label in np.unique(y)]
        for found, value in (
            (balanced_accuracy(confusion), np.mean(recalls)),
            (macro_f1(confusion), f1_score(y, said, average="macro")),
        ):
            assert found.value == pytest.approx(value)
            assert 0 <= found.low <= found.value <= found.high <= 1


def test_interval_without_wrong_rows_has_width():
    confusion = np.diag([50, 50])
    # By hand: centre 51 / 52, variance 2 (51 / 52) (1 / 52) / 52 / 4
    low = 51 / 52 - 1.959964 * np.sqrt(51 / 52**2 / 52 / 2)
    assert balanced_accuracy(confusion) == pytest.approx((1, low, 1), abs=1e-6)
    found = macro_f1(confusion)
    assert (found.value, found.high) == (1, 1)
    assert found.low == pytest.approx(low, abs=2e-3)


def test_means_without_spread_or_skewness():
    assert mean(np.array([0.3]), 36.0) == pytest.approx((0.3, 0, 36))
    assert mean(np.full(5, 0.25), 36.0) == (0.25, 0.25, 0.25)
    values = np.array([1.0, 2, 3, 4, 5])
    assert mean(values, 36.0) == pytest.approx((3, 3 - 1.96324, 3 + 1.96324), abs=1e-5)  # Student's


def test_the_mean_of_nearly_equal_values():
    values = np.full(50, 0.25)
    values[::2] += np.spacing(0.25)  # losses of a head that says the same of every row
    found = mean(values, 1.0)
    assert found.low <= found.value <= found.high
    assert found.high - found.low < 1e-15


def test_the_skewness_is_that_of_the_values():
    values = np.random.default_rng(0).exponential(size=40)
    found, n, deviation = mean(values, 100.0), 40, values.std(ddof=1)
    skewness = stats.skew(values)

    def studentised(truth):  # Hall's transformation of the t statistic
        gap = (values.mean() - truth) / deviation
        return np.sqrt(n) * (gap + skewness * gap**2 / 3 + skewness**2 * gap**3 / 27 + skewness / (6 * n))

    reach = stats.t.ppf(0.975, n - 1)
    assert studentised(found.low) == pytest.approx(reach, rel=1e-9)
    assert studentised(found.high) == pytest.approx(-reach, rel=1e-9)


@pytest.mark.parametrize(("factor", "lead"), [(1, 6), (1, 8), (3, 6)])
def test_the_interval_of_log_loss_covers_it_for_heads_that_are_rarely_wrong(factor, lead):
    """By the t interval alone, 86, 40 and 51 % of these do."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 2)) + lead * np.eye(2)[rng.integers(0, 2, 20_000)]
    true, said = special.softmax(logits, axis=1), special.softmax(factor * logits, axis=1)
    truth = -(true * np.log(said)).sum(axis=1).mean()
    held = 0
    for _ in range(300):
        rows = rng.integers(0, len(said), 100)
        _, low, high = log_loss((rng.random(100) > true[rows, 0]).astype(int), said[rows])
        held += low <= truth <= high
    assert held >= stats.binom.ppf(1e-3, 300, 0.93)


def test_the_interval_of_log_loss_has_width_where_nothing_is_wrong():
    certain = np.tile([1.0, 0.0], (3, 1))
    assert log_loss(np.zeros(3, int), certain) == pytest.approx((0, 0, -np.log(np.finfo(float).eps)))
    sure = np.tile([0.99, 0.01], (100, 1))
    # 3.69 wrong rows of 100 are the upper limit of none (Garwood 1936).
    high = -np.log(0.99) + 0.036889 * (np.log(0.99) - np.log(0.01))
    assert log_loss(np.zeros(100, int), sure) == pytest.approx((-np.log(0.99), -np.log(0.99), high), abs=1e-5)


def test_the_interval_of_macro_f1_has_width_where_one_class_occurs():
    assert macro_f1(np.diag([3, 0])) == share(3, 3)
