"""The table of heads, and parameters from text."""

import subprocess
import sys

import pytest

from frostline.classifiers.errors import HeadError
from frostline.classifiers.heads.catalog import HEADS, find_head, parse_params


def test_registry_lists_builtin_heads():
    assert set(HEADS.builtin) == {
        *["linear", "mlp", "logreg", "ridge", "svm", "knn", "centroid", "lda", "forest", "boosting"]
    }


def test_importing_the_table_imports_no_library():
    code = (
        "import sys, frostline.classifiers, frostline.classifiers.heads.catalog, frostline.classifiers.errors;"
        "print([m for m in ('torch', 'sklearn', 'scipy', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_parameters_come_in_their_types():
    params = parse_params(
        "mlp", ["hidden=256, 128", "lr=3e-4", "batch_norm=yes", "epochs=5", "class_weight=none"]
    )
    assert params == {"hidden": (256, 128), "lr": 3e-4, "batch_norm": True, "epochs": 5, "class_weight": None}
    assert parse_params("mlp", ["hidden="]) == {"hidden": ()}
    assert parse_params("linear", []) == {}


@pytest.mark.parametrize(
    ("head", "texts", "message"),
    [
        ("liner", [], r"no head 'liner' \(did you mean 'linear'\?\); expected one of linear, mlp"),
        ("linear", ["l1=1"], r"head 'linear' has no parameter 'l1' \(did you mean 'l2'.*it has l2=0.03"),
        ("linear", ["l2"], r"parameter 'l2': expected NAME=VALUE"),
        ("linear", ["l2=strong"], r"l2: got 'strong', expected a number above 0"),
        ("linear", ["l2=-1"], r"l2: got '-1'"),
        ("linear", ["l2=nan"], r"l2: got 'nan'"),
        ("linear", ["l2=inf"], r"l2: got 'inf'"),
        ("linear", ["l2=1", "l2=2"], r"parameter 'l2' is given twice: '1' and '2'"),
        ("mlp", ["dropout=1"], r"dropout: got '1', expected a number of at least 0 and below 1"),
        ("mlp", ["hidden=5,-1"], r"hidden: got '5,-1', expected comma-separated whole numbers"),
        ("mlp", ["batch_norm=perhaps"], r"batch_norm: got 'perhaps', expected true or false"),
        ("knn", ["n_neighbors=2.5"], r"n_neighbors: got '2.5', expected a whole number of at least 1"),
        ("svm", ["kernel=poly"], r"kernel: got 'poly', expected one of linear, rbf"),
        ("ridge", ["class_weight=heavy"], r"class_weight: got 'heavy', expected none, or one of balanced"),
    ],
)
def test_invalid_parameter_error_lists_valid_values(head, texts, message):
    with pytest.raises(HeadError, match=message):
        parse_params(head, texts)


def test_python_values_are_validated_like_texts():
    kind = find_head("mlp")
    assert kind.check({"hidden": [64, 32], "lr": 1}) == {"hidden": (64, 32), "lr": 1.0}
    with pytest.raises(HeadError, match="epochs: got '0'"):
        kind.check({"epochs": 0})


def test_fixed_parameters_are_not_searched():
    kind = find_head("mlp")
    assert {tuple(c) for c in kind.candidates({"lr": 0.1}, 100)} == {("weight_decay",)}
    assert kind.candidates({"lr": 0.1, "weight_decay": 0.0}, 100) == [{}]
    rbf, linear = (
        {c["C"] for c in find_head("svm").candidates({"kernel": k}, 100)} for k in ("rbf", "linear")
    )
    assert rbf.isdisjoint(linear)


def test_no_more_neighbours_are_tried_than_there_are_rows():
    assert [c["n_neighbors"] for c in find_head("knn").candidates({}, 10)] == [10, 5, 3, 1]
