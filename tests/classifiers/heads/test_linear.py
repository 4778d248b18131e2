"""The linear head finds the optimum that scikit-learn finds, whatever the classes, weights, strength and format."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler, normalize
from sklearn.utils.class_weight import compute_sample_weight

from frostline.classifiers import LinearHead, MLPHead, linear_path
from frostline.classifiers.errors import HeadError


@pytest.fixture(scope="module")
def digit_rows():
    X, y = load_digits(return_X_y=True)
    return X[:700].astype(np.float32), y[:700]


def scaled(X, weights=None):
    return StandardScaler().fit_transform(X.astype(np.float64), sample_weight=weights)


def objective(Z, y, model, l2, weights=None):
    """Mean cross-entropy plus penalty, in float64 and from its definition."""
    weights = np.ones(len(y)) if weights is None else weights
    coef, intercept = model
    scores = Z @ coef.T + intercept
    if scores.shape[1] == 1:
        scores = np.hstack([np.zeros_like(scores), scores])
    losses = -log_softmax(scores, axis=1)[np.arange(len(y)), np.searchsorted(np.unique(y), y)]
    return float(weights @ losses / weights.sum() + l2 / 2 * (coef**2).sum())


def reference(Z, y, l2, weights=None):
    """scikit-learn's optimum of the same objective, to tight tolerance."""
    total = len(y) if weights is None else weights.sum()
    model = LogisticRegression(C=1 / (l2 * total), tol=1e-10, max_iter=50_000).fit(
        Z, y, sample_weight=weights
    )
    return model, objective(Z, y, (model.coef_, model.intercept_), l2, weights)


def in_scaled_units(head, X, weights=None):
    scaler = StandardScaler().fit(X.astype(np.float64), sample_weight=weights)
    return head.coef_ * scaler.scale_, head.intercept_ + head.coef_ @ scaler.mean_


@pytest.mark.parametrize("l2", [1.0, 0.03, 1e-3, 1e-5])
def test_objective_matches_scikit_learn_within_a_millionth(digit_rows, l2):
    X, y = digit_rows
    Z = scaled(X)
    _, best = reference(Z, y, l2)
    head = LinearHead(l2, tol=1e-6, device="cpu", max_iter=5000).fit(X, y)
    reached = objective(Z, y, in_scaled_units(head, X), l2)
    assert reached == pytest.approx(best, rel=2e-6)
    assert head.objective_ == pytest.approx(reached, rel=1e-5)


@pytest.mark.parametrize("tol", [1e-2, 1e-4, 1e-6])
def test_tolerance_is_an_upper_bound_of_the_excess(digit_rows, tol):
    X, y = digit_rows
    kept = (y < 3) | (np.arange(len(y)) < 150)  # classes of very different frequency need the intercept
    X, y = X[kept], y[kept]
    for l2 in (10, 1, 0.1, 0.001):
        _, best = reference(scaled(X), y, l2)
        head = LinearHead(l2, tol=tol, device="cpu").fit(X, y)
        assert best * (1 - 1e-9) <= objective(scaled(X), y, in_scaled_units(head, X), l2) <= best * (1 + tol)


def rectified():
    """Strongly correlated features, as of a network: an estimate by L-BFGS was up to 110 times too small on them."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 5, 500)
    hidden = rng.normal(size=(5, 8))[y] + rng.normal(size=(500, 8))
    return np.maximum(hidden @ rng.normal(size=(8, 100)) - 4, 0), y


def collinear():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 400)
    X = rng.normal(size=(4, 20))[y] / 2 + rng.normal(size=(400, 20))
    return np.hstack([X, X + 1e-4 * rng.normal(size=X.shape)]), y


def unbalanced():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [1600, 40, 2])
    return rng.normal(size=(3, 20))[y] / 2 + rng.normal(size=(len(y), 20)), y


@pytest.mark.parametrize("rows", [rectified, collinear, unbalanced])
def test_fit_proves_tolerance_on_hard_rows(rows):
    X, y = rows()
    for l2 in (1e-2, 1e-4):
        head = LinearHead(l2, tol=1e-5, device="cpu").fit(X, y)
        newton = LogisticRegression(C=1 / (l2 * len(y)), solver="newton-cholesky", tol=1e-10, max_iter=200)
        newton.fit(scaled(X), y)
        best = objective(scaled(X), y, (newton.coef_, newton.intercept_), l2)
        assert head.converged_
        assert best * (1 - 1e-9) <= objective(scaled(X), y, in_scaled_units(head, X), l2) <= best * (1 + 1e-5)


def test_proven_excess_of_path_bounds_true_excess():
    X, y = rectified()
    for solution in linear_path(X, y, [1e-1, 1e-2, 1e-3], device="cpu"):
        newton = LogisticRegression(
            C=1 / (solution.l2 * len(y)), solver="newton-cholesky", tol=1e-10, max_iter=200
        )
        newton.fit(scaled(X), y)
        best = objective(scaled(X), y, (newton.coef_, newton.intercept_), solution.l2)
        assert solution.objective - best <= solution.excess + 1e-12


def test_too_long_first_step_is_shortened():
    """Few different rows under a weak penalty: the curvature at zero says nothing of where the optimum is."""
    rng = np.random.default_rng(1)
    y, copies = rng.integers(0, 4, 60), [1] * 50 + [100] * 10
    X = rng.normal(size=(4, 40))[y] / 2 + rng.normal(size=(60, 40))
    assert LinearHead(1e-5, device="cpu").fit(X.repeat(copies, axis=0), y.repeat(copies)).converged_


def test_single_precision_starts_under_a_weak_penalty():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 100)
    X = rng.normal(size=(4, 150))[y] / 2 + rng.normal(size=(100, 150))
    head = LinearHead(1e-7, tol=1e-3, dtype="float32", device="cpu").fit(X, y)
    assert head.converged_
    assert head.objective_ < 1e-4  # the rows are separable


@pytest.mark.parametrize("k", [2, 3])
def test_predictions_match_scikit_learn(make_blobs, k):
    data = make_blobs(400, 10, k, dtype=np.float64)
    model, _ = reference(scaled(data.X), data.y, 0.01)
    head = LinearHead(0.01, tol=1e-12, device="cpu").fit(data.X, data.y)
    assert head.coef_.shape == (1 if k == 2 else k, 10)
    assert head.predict_proba(data.X) == pytest.approx(model.predict_proba(scaled(data.X)), abs=1e-5)
    expected = model.decision_function(scaled(data.X))
    assert head.decision_function(data.X) == pytest.approx(expected, abs=1e-5)
    assert np.array_equal(head.predict(data.X), model.predict(scaled(data.X)))


def test_raw_features_without_scale_or_intercept(blobs):
    X = (blobs.X - blobs.X.mean(axis=0)).astype(np.float64)
    model = LogisticRegression(C=1 / (0.1 * len(X)), tol=1e-12, max_iter=20_000, fit_intercept=False).fit(
        X, blobs.y
    )
    head = LinearHead(0.1, scale="none", fit_intercept=False, tol=1e-12, device="cpu", max_iter=5000).fit(
        X, blobs.y
    )
    assert not head.intercept_.any()
    assert head.coef_ == pytest.approx(model.coef_, abs=1e-5)


def test_row_weights_count_as_copies(blobs):
    weights = np.random.default_rng(0).integers(0, 4, len(blobs.y))
    options = {"l2": 0.01, "tol": 1e-12, "dtype": "float64", "device": "cpu"}
    weighed = LinearHead(**options).fit(blobs.X, blobs.y, weights)
    copied = LinearHead(**options).fit(np.repeat(blobs.X, weights, axis=0), np.repeat(blobs.y, weights))
    assert weighed.coef_ == pytest.approx(copied.coef_, rel=1e-4, abs=1e-6)
    _, best = reference(scaled(blobs.X, weights), blobs.y, 0.01, weights)
    assert weighed.objective_ == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 5.0, 1: 1.0, 2: 0.5}])
def test_weights_are_copies_whatever_the_classes_weigh(make_blobs, class_weight):
    """In float64. An objective within 1e-12 of its optimum, of curvature 0.01 at least, leaves coefficients within 1.4e-5."""
    data = make_blobs(300, 6, 3, separation=0.5, dtype=np.float64)
    weights = np.where(data.y == 0, 7, 1) * np.random.default_rng(0).integers(0, 3, 300)
    copies = np.repeat(np.arange(300), weights)
    X, y = data.X[copies], data.y[copies]
    options = {"class_weight": class_weight, "tol": 1e-12, "device": "cpu"}
    for scale in ("standard", "none"):
        head = LinearHead(0.01, scale=scale, **options)
        weighed = head.fit(data.X, data.y, weights).predict_proba(data.X)
        assert weighed == pytest.approx(head.fit(X, y).predict_proba(data.X), abs=1e-5)
    each = compute_sample_weight(class_weight, y)
    model = LogisticRegression(C=1 / (0.01 * each.sum()), solver="newton-cholesky", tol=1e-10).fit(X, y, each)
    assert weighed == pytest.approx(model.predict_proba(data.X), abs=1e-5)


@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_rows_of_weight_0_are_ignored(make_blobs, class_weight):
    data = make_blobs(120, 6, 3, separation=0.5)
    weights = np.where(np.arange(120) < 90, 1.0, 0.0)
    y = np.where(weights > 0, data.y, 3)  # a class that no row has that counts
    head = LinearHead(class_weight=class_weight, device="cpu")
    found = head.fit(data.X, y, weights).predict_proba(data.X)
    assert head.classes_.tolist() == [0, 1, 2]
    assert np.array_equal(found, head.fit(data.X[:90], data.y[:90]).predict_proba(data.X))


def test_balanced_classes_weigh_by_inverse_frequency(make_blobs):
    data = make_blobs(400, 8, 2, separation=0.3)
    rows = np.flatnonzero((data.y == 0) | (np.arange(400) < 60))
    X, y = data.X[rows], data.y[rows]
    weights = len(y) / (2 * np.bincount(y))[y]
    options = {"l2": 0.01, "tol": 1e-10, "dtype": "float64", "device": "cpu"}
    balanced = LinearHead(class_weight="balanced", **options).fit(X, y)
    assert balanced.coef_ == pytest.approx(LinearHead(**options).fit(X, y, weights).coef_, rel=1e-6)
    plain = LinearHead(**options).fit(X, y)
    assert (balanced.predict(X) == 1).mean() > (plain.predict(X) == 1).mean()


@pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf])
@pytest.mark.parametrize("head", [LinearHead, MLPHead])
def test_invalid_class_weights_raise(blobs, head, weight):
    with pytest.raises(HeadError, match=r"class_weight: got .* for class 1, expected a finite number"):
        head(class_weight={0: 1.0, 1: weight}, device="cpu").fit(blobs.X, blobs.y)


@pytest.mark.parametrize(("scale", "norm"), [("l2", "l2"), ("maxnorm", "max")])
def test_rows_are_divided_by_their_norm(blobs, scale, norm):
    Z = normalize(blobs.X.astype(np.float64), norm)
    model, best = reference(Z, blobs.y, 1e-3)
    head = LinearHead(1e-3, scale=scale, tol=1e-12, dtype="float64", device="cpu").fit(blobs.X, blobs.y)
    assert head.objective_ == pytest.approx(best, rel=1e-8)
    assert head.predict_proba(blobs.X) == pytest.approx(model.predict_proba(Z), abs=1e-5)


@pytest.mark.parametrize("k", [2, 3])
def test_label_smoothing_matches_torch(make_blobs, k):
    data = make_blobs(200, 6, k)
    options = {"dtype": "float64", "device": "cpu", "tol": 1e-12, "label_smoothing": 0.2}
    head = LinearHead(0.01, **options).fit(data.X, data.y)
    coef, intercept = in_scaled_units(head, data.X)
    logits = torch.tensor(scaled(data.X) @ coef.T + intercept)
    if k == 2:
        logits = torch.hstack([torch.zeros_like(logits), logits])
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(data.y), label_smoothing=0.2)
    assert head.objective_ == pytest.approx(float(loss) + 0.005 * (coef**2).sum(), rel=1e-6)
    intercept_slope = torch.autograd.functional.jacobian(
        lambda shift: torch.nn.functional.cross_entropy(
            logits + shift, torch.tensor(data.y), label_smoothing=0.2
        ),
        torch.zeros(k, dtype=torch.float64),
    )
    assert intercept_slope.abs().max() < 1e-5


@pytest.mark.parametrize("scale", ["standard", "none", "l2", "maxnorm"])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_streamed_rows_give_the_same_head(blobs, monkeypatch, scale, fit_intercept):
    monkeypatch.setattr("frostline.classifiers.numerics.matrices._BLOCK_BYTES", 50 * 4 * 12)
    X = blobs.X[:, 6:].astype(np.float64)
    weights = np.random.default_rng(0).uniform(0.5, 2, len(X))
    options = {"scale": scale, "fit_intercept": fit_intercept, "class_weight": "balanced", "device": "cpu"}
    options |= {"label_smoothing": 0.05, "tol": 1e-12, "l2": 0.01}
    whole = LinearHead(**options).fit(X, blobs.y, weights)
    streamed = LinearHead(memory=1, **options).fit(X, blobs.y, weights)
    assert streamed.coef_ == pytest.approx(whole.coef_, rel=1e-4, abs=1e-5)
    assert streamed.objective_ == pytest.approx(whole.objective_, rel=1e-9)


@pytest.mark.parametrize("shape", [(60, 200), (60, 100), (200, 20)])
def test_wide_and_tall_rows_reach_scikit_learns_objective(make_blobs, shape):
    data = make_blobs(*shape, 4, dtype=np.float64)
    for solution in linear_path(data.X, data.y, np.geomspace(10, 1e-4, 7), device="cpu"):
        _, best = reference(scaled(data.X), data.y, solution.l2)
        assert best * (1 - 1e-6) <= solution.objective <= best * 1.001


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_row_space_preserves_solution(make_blobs, monkeypatch, fit_intercept):
    data = make_blobs(50, 120, 3, dtype=np.float64)
    options = {"fit_intercept": fit_intercept, "tol": 1e-12, "device": "cpu", "max_iter": 5000}
    reduced = LinearHead(0.01, **options).fit(data.X, data.y)
    again = LinearHead(0.01, **options).fit(
        data.X, data.y, coef_init=reduced.coef_, intercept_init=reduced.intercept_
    )
    assert again.n_iter_ < reduced.n_iter_
    monkeypatch.setattr("frostline.classifiers.heads.linear._WIDE", np.inf)
    whole = LinearHead(0.01, **options).fit(data.X, data.y)
    assert reduced.objective_ == pytest.approx(whole.objective_, rel=1e-10)
    assert reduced.coef_ == pytest.approx(whole.coef_, rel=1e-3, abs=1e-6)
    assert reduced.intercept_ == pytest.approx(whole.intercept_, rel=1e-3, abs=1e-5)


def test_labels_of_any_type_are_returned(blobs):
    names = np.array(["owl", "asp", "fox"])[blobs.y]
    head = LinearHead(device="cpu").fit(blobs.X, names)
    assert head.classes_.tolist() == ["asp", "fox", "owl"]
    assert (head.predict(blobs.X) == names).mean() > 0.8


def test_half_precision_memory_maps_give_the_same_head(blobs, tmp_path):
    half = blobs.X.astype(np.float16)
    path = tmp_path / "features"
    path.write_bytes(half.tobytes())
    mapped = np.memmap(path, np.float16, "r", shape=half.shape)
    from_map = LinearHead(device="cpu").fit(mapped, blobs.y)
    in_memory = LinearHead(device="cpu").fit(half.astype(np.float32), blobs.y)
    assert np.array_equal(from_map.coef_, in_memory.coef_)
    assert np.array_equal(from_map.predict_proba(mapped), in_memory.predict_proba(half.astype(np.float32)))


def test_input_is_never_changed(blobs):
    X, y = blobs.X.copy(), blobs.y.copy()
    for scale in ("standard", "none"):
        LinearHead(scale=scale, device="cpu", max_iter=5000).fit(X, y)
    assert np.array_equal(X, blobs.X)
    assert np.array_equal(y, blobs.y)


def test_blocks_of_rows_change_nothing(blobs, monkeypatch):
    whole = LinearHead(device="cpu", dtype="float64", tol=1e-10).fit(blobs.X, blobs.y)
    monkeypatch.setattr("frostline.classifiers.numerics.matrices._BLOCK_BYTES", 7 * 8 * 12)
    monkeypatch.setattr("frostline.classifiers.numerics.matrices._CHUNK_BYTES", 7 * 4 * 12)
    parts = LinearHead(device="cpu", dtype="float64", tol=1e-10).fit(blobs.X, blobs.y)
    assert parts.coef_ == pytest.approx(whole.coef_, rel=1e-6)
    assert parts.predict_proba(blobs.X) == pytest.approx(whole.predict_proba(blobs.X), rel=1e-5)


def test_constant_and_shifted_features_do_not_change_predictions(blobs):
    rng = np.random.default_rng(0)
    dead = np.full((len(blobs.y), 1), 0.1, np.float32)
    far = 1000 + rng.normal(size=(len(blobs.y), 1)).astype(np.float32)
    X = np.hstack([dead, blobs.X, far])
    head = LinearHead(0.01, device="cpu").fit(X, blobs.y)
    clean = LinearHead(0.01, device="cpu").fit(np.hstack([blobs.X, far - 1000]), blobs.y)
    assert np.isfinite(head.coef_).all()
    assert head.predict_proba(X) == pytest.approx(
        clean.predict_proba(np.hstack([blobs.X, far - 1000])), abs=0.01
    )


def beside(X, kind):
    """The rows with three columns more: what they hold, and whether that is no more than a constant."""
    draw = np.random.default_rng(1).normal(size=(len(X), 3))
    with np.errstate(under="ignore"):
        more = {
            "zero": np.zeros_like(draw),
            "constant": np.full_like(draw, 0.1),
            "huge constant": np.full_like(draw, 1e30),
            "subnormal": draw * 1e-42,
            "duplicated": X[:, :3],
            "huge": draw * 1e30,
            "tiny": draw * 1e-30,
            "sparse": (np.arange(3 * len(X)).reshape(-1, 3) == 7) * 1e-3,
        }[kind]
        return np.hstack([X, more.astype(np.float32)])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("memory", [None, 1])
@pytest.mark.parametrize("kind", ["zero", "constant", "huge constant", "subnormal"])
def test_constant_features_are_ignored(blobs, kind, memory):
    X = beside(blobs.X, kind)
    head = LinearHead(0.01, device="cpu", memory=memory, tol=1e-6).fit(X, blobs.y)
    without = LinearHead(0.01, device="cpu", memory=memory, tol=1e-6).fit(blobs.X, blobs.y)
    assert not head.coef_[:, -3:].any()
    assert head.predict_proba(X) == pytest.approx(without.predict_proba(blobs.X), abs=1e-3)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["duplicated", "huge", "tiny", "sparse"])
def test_features_of_any_size_reach_the_optimum(blobs, kind):
    X = beside(blobs.X, kind)
    _, best = reference(scaled(X), blobs.y, 0.01)
    assert LinearHead(0.01, device="cpu").fit(X, blobs.y).objective_ == pytest.approx(best, rel=2e-5)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("shape", [(400, 320), (300, 320), (5, 50)])
def test_nearly_dead_features_are_decomposed(shape):
    """Of rectified features at small inputs most are zero in nearly all rows; single precision failed on 400 x 320."""
    n, d = shape
    rng = np.random.default_rng(0)
    X, y = np.zeros((n, d), np.float32), np.arange(n) % 5
    alive, rare = d // 6, d // 8
    X[:, :alive] = np.maximum(rng.standard_normal((n, alive)), 0)
    for column in range(alive, alive + rare):
        X[rng.integers(0, n, rng.integers(1, 6)), column] = rng.random()
    X = X[:, rng.permutation(d)]
    _, best = reference(scaled(X), y, 0.1)
    assert LinearHead(0.1, device="cpu").fit(X, y).objective_ == pytest.approx(best, rel=2e-5)


def test_failed_decomposition_only_costs_time(blobs, monkeypatch):
    def fail(_matrix):
        raise torch.linalg.LinAlgError

    expected = LinearHead(0.01, device="cpu").fit(blobs.X, blobs.y)
    monkeypatch.setattr(torch.linalg, "eigh", fail)
    head = LinearHead(0.01, device="cpu").fit(blobs.X, blobs.y)
    assert head.objective_ == pytest.approx(expected.objective_, rel=2e-5)
    assert head.n_iter_ > expected.n_iter_


def test_path_meets_single_fits_and_takes_fewer_iterations(digit_rows):
    X, y = digit_rows
    l2s = [1e-3, 1.0, 0.03, 1e-4]
    path = list(linear_path(X, y, l2s, device="cpu", tol=1e-6))
    assert [solution.l2 for solution in path] == [1.0, 0.03, 1e-3, 1e-4]
    single = [LinearHead(solution.l2, device="cpu", tol=1e-6).fit(X, y) for solution in path]
    for solution, head in zip(path, single, strict=True):
        assert solution.converged
        assert solution.objective == pytest.approx(head.objective_, rel=2e-6)
    assert sum(s.iterations for s in path) < sum(head.n_iter_ for head in single)


def test_path_is_solved_lazily(digit_rows):
    X, y = digit_rows
    path = linear_path(X, y, [1.0, 1e-8], device="cpu", tol=1e-12, dtype="float64", max_iter=10**9)
    assert next(path).l2 == 1.0  # the second would take very long


def test_starting_at_the_solution_takes_fewer_iterations(digit_rows):
    X, y = digit_rows
    head = LinearHead(0.01, device="cpu").fit(X, y)
    again = LinearHead(0.01, device="cpu", tol=2e-5).fit(
        X, y, coef_init=head.coef_, intercept_init=head.intercept_
    )
    assert again.n_iter_ < head.n_iter_
    assert again.objective_ == pytest.approx(head.objective_, rel=1e-4)


def test_start_of_wrong_shape_raises(blobs):
    with pytest.raises(HeadError, match=r"start: got coefficients \(2, 12\).*expected \(3, 12\)"):
        LinearHead(device="cpu").fit(
            blobs.X, blobs.y, coef_init=np.zeros((2, 12)), intercept_init=np.zeros(2)
        )


def test_too_few_iterations_are_a_warning(digit_rows):
    with pytest.warns(ConvergenceWarning, match=r"l2=1e-05: the objective is not within tol=1e-05"):
        head = LinearHead(1e-5, max_iter=3, device="cpu").fit(*digit_rows)
    assert (head.n_iter_, head.converged_) == (3, False)


def test_without_an_intercept_a_tolerance_is_no_tighter_than_it_says(make_blobs):
    """Of classes of unequal frequency the objective then stays above the entropy of their shares."""
    data = make_blobs(400, 6, 2, dtype=np.float64)
    y = (np.arange(400) % 20 == 0).astype(int)  # that the features know nothing of
    loose, tight = (
        LinearHead(1e-4, tol=tol, fit_intercept=False, device="cpu").fit(data.X, y) for tol in (1e-1, 1e-9)
    )
    assert loose.objective_ > 0.5
    assert loose.n_iter_ < tight.n_iter_


def test_a_tolerance_beyond_the_format_ends_with_a_warning(blobs):
    with pytest.warns(ConvergenceWarning, match="dtype='float64'"):
        LinearHead(0.01, tol=1e-18, max_iter=10**6, dtype="float32", device="cpu").fit(blobs.X, blobs.y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"l2": 0}, "l2: got"),
        ({"l2": float("nan")}, "l2: got"),
        ({"scale": "minmax"}, "scale: got 'minmax', expected one of standard, none, l2, maxnorm"),
        ({"dtype": "float16"}, "dtype: got 'float16'"),
        ({"tol": 0}, "tol=0"),
        ({"device": "abacus"}, "device: got 'abacus'"),
    ],
)
def test_options_out_of_range_are_refused(blobs, options, message):
    with pytest.raises(HeadError, match=message):
        LinearHead(**options).fit(blobs.X, blobs.y)


def test_one_class_is_refused(blobs):
    with pytest.raises(HeadError, match="at least two classes; got 1 class"):
        LinearHead(device="cpu").fit(blobs.X, np.zeros(len(blobs.y)))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_named(blobs):
    with pytest.raises(HeadError, match=r"device: got 'cuda'.*use auto or cpu"):
        LinearHead(device="cuda").fit(blobs.X, blobs.y)


@pytest.mark.cuda
@pytest.mark.parametrize("l2", [1.0, 1e-3])
def test_gpu_and_cpu_agree(digit_rows, l2):
    X, y = digit_rows
    cpu, gpu = (LinearHead(l2, device=device, tol=1e-6).fit(X, y) for device in ("cpu", "cuda"))
    assert gpu.objective_ == pytest.approx(cpu.objective_, rel=2e-6)
    assert gpu.predict_proba(X) == pytest.approx(cpu.predict_proba(X), abs=5e-3)
