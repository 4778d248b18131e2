"""Every head and score on features that break factorisations: zero, constant, duplicated, huge, tiny, few rows."""

import numpy as np
import pytest

from frostline.classifiers import FitOptions, LabelledRows
from frostline.classifiers.errors import HeadError, MetricsError
from frostline.classifiers.experiments.transferability import h_score, log_me, one_nn
from frostline.classifiers.fitting.fit import fit_head
from frostline.classifiers.heads.catalog import HEADS
from frostline.classifiers.heads.linear import LinearHead
from frostline.classifiers.inspection.label_errors import find_label_errors

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

FAST = {
    "mlp": {"hidden": "8", "epochs": "3", "lr": "0.001", "weight_decay": "0.01"},
    "linear": {"l2": "0.01"},
    "logreg": {"C": "0.01"},
    "ridge": {"alpha": "10"},
    "svm": {"C": "0.001"},
    "knn": {"n_neighbors": "1"},
    "centroid": {"metric": "euclidean"},
    "lda": {"shrinkage": "auto"},
    "forest": {"n_estimators": "5", "min_samples_leaf": "1"},
    "boosting": {"max_iter": "3", "max_leaf_nodes": "3"},
}
COLUMNS = {
    "zero": np.zeros_like,
    "constant": lambda draw: np.full_like(draw, 0.1),
    "duplicated": lambda draw: np.repeat(draw[:, :1], draw.shape[1], axis=1),
    "huge": lambda draw: draw * 1e15,
    "tiny": lambda draw: draw * 1e-30,
    "subnormal": lambda draw: draw * 1e-42,
    "one row alone": lambda draw: np.where(np.arange(len(draw))[:, None] == 3, 1e-3, 0),
}
SHAPES = {
    "many rows": (60, 8, 3),
    "more features than rows": (24, 60, 3),
    "one row per class": (12, 20, 12),
    "two classes": (30, 40, 2),
}


def rows(shape, columns, *, alone=False):
    """Rows that the first eight features tell apart, and beside them (or instead of them) the columns of that kind."""
    n, d, k = SHAPES[shape]
    rng = np.random.default_rng(0)
    y = np.arange(n) % k
    X = rng.normal(size=(k, d))[y] * 3 + rng.normal(size=(n, d))
    with np.errstate(under="ignore"):
        hard = COLUMNS[columns](rng.normal(size=(n, max(d, 4))))
    return (hard if alone else np.hstack([X, hard])).astype(np.float32), y, k


def fit(head, X, y, k):
    every = np.arange(len(y))
    names = tuple(f"class {i}" for i in range(k))
    rows = LabelledRows(X, y, every, every[:0], names)
    return fit_head(head, rows, FitOptions(FAST[head], device="cpu"), refit=False)


CASES = [(shape, alone) for shape in SHAPES for alone in (False, True)]


def refused(head, columns, shape, *, alone):
    """What scikit-learn has against the rows, if anything."""
    if head == "lda" and shape == "one row per class":
        return "The number of samples must be more than the number of classes"
    if head == "centroid" and alone and columns in {"zero", "constant"}:
        return "All features have zero variance"
    return None


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("head", HEADS.builtin)
def test_heads_fit_hard_features(head, columns):
    for shape, alone in CASES:
        X, y, k = rows(shape, columns, alone=alone)
        if refusal := refused(head, columns, shape, alone=alone):
            with pytest.raises(HeadError, match=f"head '{head}' can't be fitted: {refusal}"):
                fit(head, X, y, k)
            continue
        scores = fit(head, X, y, k).logits(X)
        assert scores.shape == (len(y), k), (shape, alone)
        assert np.isfinite(scores).all(), (shape, alone)


@pytest.mark.parametrize("columns", ["zero", "constant", "duplicated"])
@pytest.mark.parametrize("head", ["linear", "logreg", "ridge", "svm", "centroid", "lda"])
def test_uninformative_features_do_not_reduce_accuracy(head, columns):
    X, y, k = rows("many rows", columns)
    fitted = fit(head, X, y, k)
    alone = fit(head, X[:, :8], y, k)
    assert np.mean(fitted.predict(X) == y) >= np.mean(alone.predict(X[:, :8]) == y) - 0.05


def test_all_heads_are_tried():
    assert set(FAST) == set(HEADS.builtin)


@pytest.mark.parametrize("columns", COLUMNS)
def test_transferability_scores_are_finite_for_features_of_every_kind(columns):
    for shape, alone in CASES:
        X, y, _ = rows(shape, columns, alone=alone)
        assert 0 <= one_nn(X, y, device="cpu") <= 1, (shape, alone)
        if alone and columns in {"zero", "constant"}:
            with pytest.raises(MetricsError, match="all rows are the same"):
                h_score(X, y)
            continue
        assert np.isfinite(log_me(X, y)), (shape, alone)
        assert np.isfinite(h_score(X, y)), (shape, alone)


@pytest.mark.parametrize("columns", COLUMNS)
def test_label_errors_accept_hard_features(columns):
    pytest.importorskip("cleanlab")
    for shape, alone in CASES:
        if shape != "one row per class":  # which no fold can judge
            X, y, _ = rows(shape, columns, alone=alone)
            found = find_label_errors(X, y, LinearHead(0.01, device="cpu"), folds=3)
            assert np.isfinite(found.margin).all(), (shape, alone)
