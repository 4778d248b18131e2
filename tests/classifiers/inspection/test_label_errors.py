"""Labels that were flipped on purpose are found, and few others."""

import sys

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

from frostline.classifiers.errors import HeadError
from frostline.classifiers.inspection.label_errors import find_label_errors, out_of_fold_proba


def flipped(n=600, k=4, share=0.08, seed=0):
    rng = np.random.default_rng(seed)
    names = np.array(["ant", "bee", "cat", "dog"])[:k]
    true = rng.integers(0, k, n)
    X = 2.5 * rng.normal(size=(k, 10))[true] + rng.normal(size=(n, 10))
    wrong = rng.choice(n, int(share * n), replace=False)
    given = true.copy()
    given[wrong] = (true[wrong] + rng.integers(1, k, len(wrong))) % k
    return X, names[given], names[true], np.sort(wrong)


def test_flipped_labels_are_found():
    pytest.importorskip("cleanlab", reason="needs the extra label-errors")
    X, given, true, wrong = flipped()
    issues = find_label_errors(X, given, LogisticRegression(max_iter=500))
    found = np.isin(issues.rows, wrong)
    assert found.mean() >= 0.9
    assert np.isin(wrong, issues.rows).mean() >= 0.9
    assert found[: len(wrong) // 2].all()
    np.testing.assert_array_equal(issues.given, given[issues.rows])
    assert np.mean(issues.suggested[found] == true[issues.rows[found]]) >= 0.95
    assert (np.diff(issues.margin) >= 0).all()
    assert (issues.margin <= 0).all()
    assert (issues.confidence < 0.5).all()
    assert issues.scored == 600
    assert sum(issues.per_class.values()) == len(issues.rows)
    again = find_label_errors(X, given, LogisticRegression(max_iter=500))
    np.testing.assert_array_equal(again.rows, issues.rows)


def test_clean_labels_are_rarely_flagged():
    pytest.importorskip("cleanlab", reason="needs the extra label-errors")
    X, _, true, _ = flipped(seed=1)
    assert len(find_label_errors(X, true, LogisticRegression(max_iter=500)).rows) <= 6


def test_a_class_of_one_row_is_not_judged():
    pytest.importorskip("cleanlab", reason="needs the extra label-errors")
    X, given, _, _ = flipped()
    given = given.astype("<U5")
    given[17] = "zebra"
    issues = find_label_errors(X, given, GaussianNB())
    assert issues.unscored.tolist() == [17]
    assert issues.scored == 599
    assert 17 not in issues.rows
    assert "zebra" not in issues.suggested


def test_a_missing_cleanlab_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cleanlab", None)
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    with pytest.raises(ImportError, match=r"pip install 'frostline\[label-errors\]'"):
        find_label_errors(np.eye(4), np.array([0, 0, 1, 1]), GaussianNB(), folds=2)


class Spy(GaussianNB):
    """Remembers on which rows it was fitted, and refuses to judge any of them."""

    def fit(self, X, y):
        self.seen_ = set(X[:, 0].tolist())
        return super().fit(X, y)

    def predict_proba(self, X):
        assert not self.seen_ & set(X[:, 0].tolist())
        return super().predict_proba(X)


def test_probabilities_are_out_of_fold():
    X, given, _, _ = flipped()
    proba, judged = out_of_fold_proba(X, given, Spy())
    assert judged.all()
    np.testing.assert_allclose(proba.sum(axis=1), 1)


def test_groups_are_not_divided():
    X, given, _, _ = flipped()
    groups = np.array([f"g{row // 3}" for row in range(600)])
    X[:, 0] = np.arange(600) // 3
    out_of_fold_proba(X, given, Spy(), groups=groups)
    with pytest.raises(AssertionError):
        out_of_fold_proba(X, given, Spy())
    out_of_fold_proba(X[::3], given[::3], Spy(), groups=np.array([""] * 200))


def test_classes_rarer_than_folds():
    rng = np.random.default_rng(0)
    y = np.array([0] * 20 + [1] * 20 + [2] * 2 + [3])
    proba, judged = out_of_fold_proba(
        rng.normal(size=(43, 3)) + y[:, None], y, GaussianNB(var_smoothing=1e-3)
    )
    assert judged[:42].all()
    assert not judged[42]
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    assert (proba[42, 3], (proba[:42, 3] > 0).any()) == (0, True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y": np.zeros(3)}, "got 8 rows of features, labels of shape"),
        ({"y": np.zeros(8)}, "got 1 classes"),
        ({"folds": 1}, "folds: got 1"),
        ({"folds": 9}, "folds: got 9, expected 2 to 8, the number of rows"),
        ({"groups": np.array([0, 0, 0, 0, 1, 1, 1, 1]), "folds": 3}, "expected 2 to 2, the number of groups"),
        ({"groups": np.zeros(3)}, "one group per row"),
    ],
)
def test_bad_input_is_refused(changes, message):
    arguments = {"y": np.arange(8) % 2, **changes}
    with pytest.raises(HeadError, match=message):
        out_of_fold_proba(np.eye(8), arguments.pop("y"), GaussianNB(), **arguments)
