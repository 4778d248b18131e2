"""Metrics against scikit-learn's own, and intervals that cover as often as they say."""

import numpy as np
import pytest
from sklearn import metrics as sk

from classifiers.errors import MetricsError
from classifiers.metrics import BINS, score


def draw(n, k, *, seed=0, strength=2.0, absent=()):
    rng = np.random.default_rng(seed)
    y = rng.choice([i for i in range(k) if i not in absent], n)
    logits = rng.normal(size=(n, k))
    logits[np.arange(n), y] += strength
    proba = np.exp(logits)
    return y, proba / proba.sum(axis=1, keepdims=True), [f"c{i}" for i in range(k)]


@pytest.mark.parametrize(("k", "absent"), [(2, ()), (3, ()), (10, (4, 7)), (40, (0,))])
def test_values_are_those_of_scikit_learn(k, absent):
    y, proba, classes = draw(500, k, absent=absent)
    got = score(y, proba, classes=classes, bootstrap=50)
    predicted = proba.argmax(axis=1)
    labels = range(k)
    assert got.top1.value == pytest.approx(sk.accuracy_score(y, predicted))
    assert got.log_loss.value == pytest.approx(sk.log_loss(y, proba, labels=labels))
    assert got.macro_f1.value == pytest.approx(sk.f1_score(y, predicted, average="macro"))
    recalls = sk.recall_score(y, predicted, labels=np.unique(y), average="macro")
    assert got.balanced_accuracy.value == pytest.approx(recalls)
    assert np.array_equal(got.confusion, sk.confusion_matrix(y, predicted, labels=labels))
    if k > 5:
        assert got.top5.value == pytest.approx(sk.top_k_accuracy_score(y, proba, k=5, labels=labels))
    else:
        assert got.top5.value == 1
    table = sk.precision_recall_fscore_support(y, predicted, labels=labels, zero_division=0)
    assert np.array([row[1:] for row in got.per_class]) == pytest.approx(np.array(table).T)
    assert [row.name for row in got.per_class] == classes
    for interval in (got.top1, got.balanced_accuracy, got.macro_f1, got.log_loss):
        assert interval.low <= interval.value <= interval.high


def test_calibration_error_by_its_definition():
    y, proba, classes = draw(400, 4)
    confidence, hit = proba.max(axis=1), proba.argmax(axis=1) == y
    expected = 0.0
    for b in range(BINS):
        inside = (confidence > b / BINS) & (confidence <= (b + 1) / BINS)
        if inside.any():
            expected += inside.mean() * abs(hit[inside].mean() - confidence[inside].mean())
    assert score(y, proba, classes=classes, bootstrap=1).ece.value == pytest.approx(expected)


def test_resamples_give_the_metrics_of_the_resampled_rows():
    y, proba, classes = draw(60, 7, absent=(2,))
    rng = np.random.default_rng(5)
    samples = []
    for _ in range(40):
        rows = rng.integers(0, 60, 60)
        drawn = score(y[rows], proba[rows], classes=classes, bootstrap=1)
        samples.append([drawn.macro_f1.value, drawn.balanced_accuracy.value, drawn.ece.value])
    got = score(y, proba, classes=classes, bootstrap=40, confidence=0.9, seed=5)
    value = np.array([got.macro_f1.value, got.balanced_accuracy.value, got.ece.value])
    bias = np.mean(samples, axis=0) - value
    low, high = np.clip(np.quantile(samples, (0.05, 0.95), axis=0) - bias, 0, 1)
    assert [got.macro_f1.low, got.balanced_accuracy.low, got.ece.low] == pytest.approx(low)
    assert [got.macro_f1.high, got.balanced_accuracy.high, got.ece.high] == pytest.approx(high)


def test_chunks_of_resamples_change_nothing(monkeypatch):
    y, proba, classes = draw(100, 3)
    whole = score(y, proba, classes=classes, bootstrap=30)
    monkeypatch.setattr("classifiers.metrics._CELLS", 700)
    parts = score(y, proba, classes=classes, bootstrap=30)
    assert parts.top1 == whole.top1
    assert parts.log_loss == pytest.approx(whole.log_loss, rel=1e-12)


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    trials, truth, covered = 200, 0.8, 0
    for trial in range(trials):
        hit = rng.random(300) < truth
        proba = np.where(hit[:, None], [0.9, 0.1], [0.1, 0.9])
        interval = score(np.zeros(300, np.int64), proba, classes=["a", "b"], bootstrap=200, seed=trial).top1
        covered += interval.low <= truth <= interval.high
    # 95 % of 200 within three standard errors
    assert 0.9 <= covered / trials <= 0.995


def test_a_wider_confidence_gives_a_wider_interval():
    y, proba, classes = draw(200, 3)
    wide, narrow = (score(y, proba, classes=classes, confidence=c, bootstrap=400).top1 for c in (0.99, 0.5))
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_of_equal_probabilities_the_first_class_counts_as_the_likelier():
    proba = np.full((2, 8), 1 / 8)
    got = score(np.array([0, 5]), proba, classes=list("abcdefgh"), bootstrap=5)
    assert (got.top1.value, got.top5.value) == (0.5, 0.5)


def test_impossible_classes_cost_a_bounded_log_loss():
    got = score(np.array([1]), np.array([[1.0, 0.0]]), classes=["a", "b"], bootstrap=5)
    assert got.log_loss.value == pytest.approx(-np.log(np.finfo(np.float64).eps))


def test_the_same_seed_gives_the_same_intervals():
    y, proba, classes = draw(100, 3)
    assert (
        score(y, proba, classes=classes, bootstrap=50).ece
        == score(y, proba, classes=classes, bootstrap=50).ece
    )


@pytest.mark.parametrize(
    ("y", "proba", "message"),
    [
        ([], np.zeros((0, 2)), "n > 0"),
        ([0], np.ones((1, 3)) / 3, r"expected \(n,\) and \(n, 2\)"),
        ([-1], np.ones((1, 2)) / 2, "leave unlabelled rows"),
        ([0], np.array([[0.9, 0.3]]), "got sum 1.2"),
        ([0], np.array([[1.5, -0.5]]), "minimum -0.5"),
        ([0], np.array([[np.nan, 1]]), "got sum nan"),
    ],
)
def test_what_is_no_probability_of_a_label_is_refused(y, proba, message):
    with pytest.raises(MetricsError, match=message):
        score(np.array(y, np.int64), proba, classes=["a", "b"])


def test_the_calibration_error_lies_within_its_own_interval():
    rng = np.random.default_rng(0)
    proba = rng.dirichlet([1] * 4, 300)
    y = np.array([rng.choice(4, p=row) for row in proba])
    ece = score(y, proba, classes=tuple("abcd"), bootstrap=500).ece
    assert 0 <= ece.low <= ece.value <= ece.high
