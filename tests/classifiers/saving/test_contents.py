"""Arrays of estimators whose indices or sizes would let compiled code read outside them are refused."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier, VotingClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC, NuSVC

from frostline.classifiers import FitOptions, LabelledRows, fit_head, load_head, save_head
from frostline.classifiers.errors import HeadError, HeadFormatError
from frostline.classifiers.saving.contents import check_contents


def fit(name, data, params):
    rows = LabelledRows(data.X, data.y, np.arange(200), np.arange(200, 300), data.classes)
    return fit_head(name, rows, FitOptions(params, device="cpu", trusted=[__name__]))


def longer(values):
    return np.concatenate([values, values[:1]])


def last(value):
    def change(values):
        values = values.copy()
        values[-1] = value
        return values

    return change


CHANGES = {
    "svm": {
        "support_": [lambda values: values[:-1], last(-1), last(10**6)],
        "support_vectors_": [lambda values: values[:-1], lambda values: values[:, :-1]],
        "_n_support": [last(10**6), last(-1), longer],
        "_dual_coef_": [lambda values: values[:, :-1], lambda values: values[:-1]],
        "dual_coef_": [lambda values: values[:, :-1]],
        "_intercept_": [lambda values: values[:-1]],
        "intercept_": [lambda values: values[:-1]],
        "_probA": [lambda _: np.zeros(1)],
        "_sparse": [lambda _: True],
        "_impl": [lambda _: "one_class"],
    },
    "knn": {
        "targets_": [last(-1), last(3), longer, lambda values: values.astype(np.float64)],
        "rows_": [longer, lambda values: values[:, :-1]],
    },
    "sklearn.neighbors:KNeighborsClassifier": {
        "_y": [last(-1), last(3), longer],
        "_fit_X": [longer, lambda values: values[:, :-1], lambda values: values.tolist()],
    },
    "sklearn.neighbors:RadiusNeighborsClassifier": {"_y": [last(-1), last(3), longer]},
}
PARAMS = {
    "svm": {"kernel": "rbf"},
    "knn": {},
    "sklearn.neighbors:KNeighborsClassifier": {"algorithm": "brute"},
    "sklearn.neighbors:RadiusNeighborsClassifier": {"algorithm": "brute", "radius": 1e3},
}


@pytest.mark.parametrize("name", CHANGES)
def test_arrays_that_compiled_code_would_leave_are_refused(name, make_blobs, tmp_path):
    head = fit(name, make_blobs(300, 6, 3), PARAMS[name])
    save_head(head, tmp_path)
    load_head(tmp_path)
    estimator = head.estimator[-1]
    for attribute, changes in CHANGES[name].items():
        before = vars(estimator).get(attribute)
        for change in changes:
            setattr(estimator, attribute, change(before))
            save_head(head, tmp_path)
            with pytest.raises(HeadFormatError, match=r"does not fit .*(got|support vectors are of another)"):
                load_head(tmp_path)
        if before is None:
            delattr(estimator, attribute)
        else:
            setattr(estimator, attribute, before)


@pytest.mark.parametrize(
    "estimator",
    [
        SVC(),
        NuSVC(nu=0.1),
        RandomForestClassifier(5),
        GradientBoostingClassifier(n_estimators=5),
        KNeighborsClassifier(),
    ],
    ids=repr,
)
def test_fitted_estimators_pass(estimator, make_blobs):
    data = make_blobs(120, 6, 3)
    check_contents(make_pipeline(estimator).fit(data.X, data.y))


def test_estimators_within_estimators_are_checked(make_blobs):
    data = make_blobs(120, 6, 3)
    found = make_pipeline(VotingClassifier([("forest", RandomForestClassifier(2)), ("svm", SVC())])).fit(
        data.X, data.y
    )
    check_contents(found)
    svm = found[-1].estimators_[1]
    svm._n_support = svm._n_support + 1
    with pytest.raises(HeadError, match="_n_support: got 1"):
        check_contents(found)
    svm._n_support = svm._n_support - 1
    found[-1].estimators_[0].estimators_[0].tree_.feature[0] = 6
    with pytest.raises(HeadError, match="that lead outside"):
        check_contents(found)


class Broken(KNeighborsClassifier):
    """Classifier whose predictions of some rows fail."""

    def predict_proba(self, X):
        if (X > 1e8).any():
            raise LookupError("no such neighbour")
        found = super().predict_proba(X)
        if (X > 1e4).any():
            found[-1] = np.nan
        return found[:, :2] if (X < -1e4).any() else found


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1e12, "can't score these feature vectors: no such neighbour"),
        (1e7, "returned scores that are not finite numbers"),
        (-1e7, r"returned scores of shape \(300, 2\), expected \(300, 3\)"),
    ],
)
def test_estimators_that_fail_in_prediction_are_named(value, message, make_blobs):
    data = make_blobs(300, 6, 3)
    head = fit(f"{__name__}:Broken", data, {})
    rows = data.X.copy()
    rows[-1] = value
    with pytest.raises(HeadError, match=message):
        head.predict_proba(rows)


def test_probabilities_that_are_no_numbers_are_refused(make_blobs):
    data = make_blobs(300, 6, 3)
    head = fit("ridge", data, {})
    zeros = data.X[:1] * 0
    head = replace(head, temperature=np.abs(head.logits(zeros)).max() / 1e308)
    assert head.predict_proba(zeros).sum() == pytest.approx(1)
    with pytest.raises(HeadError, match="too large for its temperature"):
        head.predict_proba(data.X * 1e6)
