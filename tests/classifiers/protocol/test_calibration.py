"""One temperature makes scores into honest probabilities."""

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from frostline.classifiers.protocol.calibration import fit_temperature, reliability
from frostline.classifiers.protocol.metrics import score


def drawn(n, k, *, seed=0):
    """Logits, and labels drawn from exactly their softmax."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, k)) * 2
    cumulative = softmax(logits, axis=1).cumsum(axis=1)
    return logits, (rng.random((n, 1)) > cumulative).sum(axis=1).clip(max=k - 1)


@pytest.mark.parametrize("factor", [0.01, 1, 700])
@pytest.mark.parametrize("k", [2, 10])
def test_recovers_scaling_factor_of_scores(factor, k):
    logits, y = drawn(20_000, k)
    assert fit_temperature(logits * factor, y) == pytest.approx(factor, rel=0.04)


def test_no_other_temperature_has_less_log_loss():
    logits, y = drawn(2000, 4)
    logits = logits * 3 + 1

    def loss(temperature):
        return -log_softmax(logits / temperature, axis=1)[np.arange(len(y)), y].mean()

    best = loss(fit_temperature(logits, y))
    assert all(best <= loss(t) + 1e-4 for t in np.geomspace(0.1, 30, 60))


def test_temperature_is_positive_without_wrong_rows():
    scores = np.where(np.eye(3)[np.arange(30) % 3] > 0, 1.0, -1.0)
    temperature = fit_temperature(scores, np.arange(30) % 3)
    surest = softmax(scores / temperature, axis=1).max()
    assert surest == pytest.approx(1 - 1 / 32, abs=1e-3)


def test_constant_scores_get_temperature_one():
    assert fit_temperature(np.zeros((5, 3)), np.zeros(5, np.int64)) == 1
    assert fit_temperature(np.zeros((0, 3)), np.zeros(0, np.int64)) == 1


def test_classes_without_rows_are_accepted():
    logits, y = drawn(3000, 4)
    known = y < 3
    assert fit_temperature(logits[known] * 5, y[known]) == pytest.approx(5, rel=0.3)
    assert fit_temperature(logits[:2], y[:2]) > 0  # fewer rows than classes


def test_reliability_reports_accuracy_per_confidence_bin():
    sure = np.array([0.95, 0.95, 0.95, 0.55, 0.55, 1.0])
    proba = np.stack([sure, 1 - sure], axis=1)
    found = reliability(np.array([0, 0, 1, 0, 1, 0]), proba)
    filled = np.flatnonzero(found.counts)
    assert found.counts[filled].tolist() == [2, 4]
    assert found.confidence[filled] == pytest.approx([0.55, 0.9625])
    assert found.accuracy[filled] == pytest.approx([0.5, 0.75])
    assert found.edges[filled] == pytest.approx(np.array([8, 14]) / 15)


def test_reliability_and_the_metric_agree():
    logits, y = drawn(500, 4)
    proba = softmax(logits * 2, axis=1)
    classes = [str(i) for i in range(4)]
    assert (
        reliability(y, proba).rms_calibration_error == score(y, proba, classes=classes).rms_calibration_error
    )
