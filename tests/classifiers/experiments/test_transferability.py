"""Each score is what its paper defines, written out slowly on small cases."""

import numpy as np
import pytest
from scipy import optimize
from sklearn.covariance import LedoitWolf
from sklearn.model_selection import LeaveOneOut, cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from frostline.classifiers.errors import MetricsError
from frostline.classifiers.experiments import transferability
from frostline.classifiers.experiments.transferability import h_score, leep, log_me, nce, one_nn


def data(n, d, k=3, signal=1.0, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % k)
    return rng.normal(size=(n, d)) * rng.uniform(0.2, 3, d) + signal * rng.normal(size=(k, d))[y] + 0.5, y


def evidence(F, y, alpha, beta):
    """Log p(y | F, alpha, beta) of You et al. 2021, equation 2: y is Gaussian with covariance I/beta + FF'/alpha."""
    covariance = np.eye(len(y)) / beta + F @ F.T / alpha
    return (
        -(len(y) * np.log(2 * np.pi) + np.linalg.slogdet(covariance)[1] + y @ np.linalg.solve(covariance, y))
        / 2
    )


def slow_log_me(F, y):
    scores = []
    for name in np.unique(y):
        own = (y == name).astype(float)
        starts = [(a, b) for a in (-4, 0, 4) for b in (0, 3)]
        found = [
            optimize.minimize(
                lambda p, own=own: -evidence(F, own, *np.exp(np.clip(p, -25, 25))),
                start,
                method="Nelder-Mead",
                tol=1e-10,
            )
            for start in starts
        ]
        scores.append(-min(result.fun for result in found) / len(y))
    return np.mean(scores)


@pytest.mark.parametrize(("n", "d", "signal"), [(40, 5, 1.0), (40, 5, 0.2), (25, 12, 2.0), (12, 30, 1.0)])
def test_log_me_is_the_largest_evidence(n, d, signal):
    F, y = data(n, d, signal=signal)
    assert log_me(F, y) == pytest.approx(slow_log_me(F, y), abs=2e-6)


def test_log_me_separates_signal_from_noise():
    F, y = data(200, 5, signal=3)
    shuffled = log_me(np.random.default_rng(0).permutation(F), y)
    assert log_me(F, y) > shuffled + 0.1
    many, y = data(200, 150, signal=0)  # enough features to fit any labels of 200 rows almost perfectly
    assert log_me(many, y) < shuffled + 0.1


def test_log_me_of_duplicated_and_constant_columns():
    F, y = data(60, 6)
    wide = np.concatenate([F, F[:, :2], np.zeros((60, 1))], axis=1)
    assert log_me(wide, y) == pytest.approx(slow_log_me(wide, y), abs=2e-6)


def slow_h_score(F, y, shrinkage):
    centred = F - F.mean(axis=0)
    covariance = centred.T @ centred / len(F)
    means = np.stack([centred[y == name].mean(axis=0) for name in y])
    between = means.T @ means / len(F)
    target = np.trace(covariance) / F.shape[1] * np.eye(F.shape[1])
    shrunk = (1 - shrinkage) * covariance + shrinkage * target
    return np.trace(np.linalg.pinv(shrunk, hermitian=True, rcond=1e-10) @ ((1 - shrinkage) * between))


@pytest.mark.parametrize(("n", "d"), [(60, 5), (60, 59), (30, 80)])
@pytest.mark.parametrize("shrinkage", [0, 0.3, None])
def test_h_score_is_the_trace_that_defines_it(n, d, shrinkage):
    F, y = data(n, d)
    used = LedoitWolf().fit(F).shrinkage_ if shrinkage is None else shrinkage
    assert h_score(F, y, shrinkage=shrinkage) == pytest.approx(slow_h_score(F, y, used), rel=1e-8)


def test_h_score_lies_between_zero_and_number_of_other_classes():
    F, y = data(300, 4, k=3, signal=0)
    assert 0 <= h_score(F, y) < 0.1
    one_hot = np.eye(3)[y] + 1e-6 * F[:, :3]
    assert h_score(one_hot, y, shrinkage=0) == pytest.approx(2, abs=1e-3)


def test_nce_is_the_negative_conditional_entropy():
    source, y = np.array(["a", "a", "a", "b", "b", "c"]), np.array([0, 0, 1, 1, 1, 0])
    expected = 3 / 6 * (2 / 3 * np.log(2 / 3) + 1 / 3 * np.log(1 / 3))
    assert nce(source, y) == pytest.approx(expected)
    assert nce(y, y) == 0


def test_leep_is_the_log_of_the_expected_prediction():
    rng = np.random.default_rng(0)
    proba, y = rng.dirichlet([0.3] * 4, 30), rng.integers(0, 3, 30)
    joint = np.array([[proba[y == label, z].sum() / 30 for z in range(4)] for label in range(3)])
    given = joint / joint.sum(axis=0)
    expected = np.mean([np.log(sum(given[y[i], z] * proba[i, z] for z in range(4))) for i in range(30)])
    assert leep(proba, y) == pytest.approx(expected)


def test_leep_of_a_certain_source_is_nce():
    rng = np.random.default_rng(0)
    source, y = rng.integers(0, 4, 50), rng.integers(0, 3, 50)
    assert leep(np.eye(6)[source], y) == pytest.approx(nce(source, y))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_one_nn_is_leave_one_out_accuracy(metric):
    F, y = data(80, 6)
    slow = cross_val_score(KNeighborsClassifier(1, metric=metric), F, y, cv=LeaveOneOut()).mean()
    assert one_nn(F, y, metric=metric, device="cpu") == pytest.approx(slow)


def test_one_nn_of_equal_rows():
    F = np.repeat(np.eye(3), 4, axis=0)
    assert one_nn(F, np.arange(12) // 4, device="cpu") == 1
    assert one_nn(F, np.array([0, 1, 1, 0] * 3), device="cpu") == 0.25  # the lowest other rows: 1, 0, 0, 0


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("shape", [(90, 7), (40, 60)])
def test_blocks_and_narrow_floats_change_nothing(monkeypatch, dtype, shape):
    F, y = data(*shape)
    F = F.astype(dtype)
    expected = log_me(F.astype(float), y), h_score(F.astype(float), y)
    monkeypatch.setattr(transferability, "_BLOCK_BYTES", 600)
    assert (log_me(F, y), h_score(F, y)) == pytest.approx(expected, rel=1e-9)


def test_scores_rise_with_the_signal():
    scores = [
        (log_me(F, y), h_score(F, y), one_nn(F, y, device="cpu"))
        for F, y in (data(300, 20, k=5, signal=signal) for signal in (0, 0.5, 1, 2))
    ]
    assert (np.diff(scores, axis=0) > 0).all()


BAD = np.array([[1.0, np.nan], [0, 1], [2, 1]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: log_me(np.eye(3), [0, 1]), r"got features \(3, 3\)"),
        (lambda: log_me(np.eye(3), [1, 1, 1]), "got 1 classes"),
        (lambda: log_me(BAD, [0, 1, 1]), "not finite"),
        (lambda: h_score(BAD.T, [0, 1]), "not finite"),
        (lambda: h_score(np.ones((4, 2)), [0, 1, 0, 1]), "all rows are the same"),
        (lambda: h_score(np.eye(3), [0, 1, 1], shrinkage=1), "shrinkage: got 1"),
        (lambda: one_nn(np.eye(3), [0, 0, 0]), "got 1 classes"),
        (lambda: nce([0, 1], [0]), "source labels"),
        (lambda: leep(np.eye(3), [0, 1]), "got probabilities"),
        (lambda: leep(np.full((2, 2), 3.0), [0, 1]), "pass the softmax"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(MetricsError, match=message):
        call()
