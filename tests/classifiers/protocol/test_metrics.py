"""Metrics against scikit-learn's own."""

import numpy as np
import pytest
from sklearn import metrics as sk

from frostline.classifiers.errors import MetricsError
from frostline.classifiers.protocol.metrics import score


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
    got = score(y, proba, classes=classes)
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
    for interval in (
        got.top1,
        got.top5,
        got.balanced_accuracy,
        got.macro_f1,
        got.log_loss,
        got.rms_calibration_error,
    ):
        assert interval.low <= interval.value <= interval.high


def test_a_wider_confidence_gives_a_wider_interval():
    y, proba, classes = draw(200, 3)
    wide, narrow = (score(y, proba, classes=classes, confidence=c).top1 for c in (0.99, 0.5))
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_equal_probabilities_rank_first_class_higher():
    proba = np.full((2, 8), 1 / 8)
    got = score(np.array([0, 5]), proba, classes=list("abcdefgh"))
    assert (got.top1.value, got.top5.value) == (0.5, 0.5)


def test_impossible_classes_cost_a_bounded_log_loss():
    got = score(np.array([1]), np.array([[1.0, 0.0]]), classes=["a", "b"])
    assert got.log_loss.value == pytest.approx(-np.log(np.finfo(np.float64).eps))


@pytest.mark.parametrize(
    ("y", "proba", "message"),
    [
        ([], np.zeros((0, 2)), "n > 0"),
        ([0], np.ones((1, 3)) / 3, r"expected \(n,\) and \(n, 2\)"),
        ([-1], np.ones((1, 2)) / 2, "drop unlabelled rows"),
        ([0], np.array([[0.9, 0.3]]), "got sum 1.2"),
        ([0], np.array([[1.5, -0.5]]), "minimum -0.5"),
        ([0], np.array([[np.nan, 1]]), "got sum nan"),
    ],
)
def test_invalid_probabilities_or_labels_raise(y, proba, message):
    with pytest.raises(MetricsError, match=message):
        score(np.array(y, np.int64), proba, classes=["a", "b"])
