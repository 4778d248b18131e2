"""Heads from outside: imported by name or declared by a package, and read from a file only where someone vouches."""

import dataclasses
import hashlib
import json
import sys

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from frostline.classifiers import FitOptions, LabelledRows, compare_heads, fit_head, load_head, save_head
from frostline.classifiers.errors import HeadError, HeadFormatError
from frostline.classifiers.heads.catalog import find_head, parse_params
from frostline.classifiers.heads.kinds import HeadKind
from frostline.classifiers.heads.parameters import Parameter, by_name, number
from frostline.classifiers.heads.trust import trust_option
from frostline.classifiers.saving.contents import check_contents
from frostline.classifiers.saving.skops_files import foreign_types


class Nearest(ClassifierMixin, BaseEstimator):
    """A classifier of a user's own."""

    def __init__(self, power=2, metric="lp"):
        self.power, self.metric = power, metric

    def fit(self, X, y):
        self.classes_, self.n_features_in_ = np.unique(y), X.shape[1]
        self.centres_ = np.stack([X[y == each].mean(axis=0) for each in self.classes_])
        return self

    def decision_function(self, X):
        return -(np.abs(X[:, None] - self.centres_) ** self.power).sum(axis=2)

    def predict(self, X):
        return self.classes_[self.decision_function(X).argmax(axis=1)]


class LabelsOnly(Nearest):
    decision_function = property()


DESCRIBED = HeadKind(
    name="",
    summary="nearest class centre",
    parameters=by_name(Parameter("power", 2.0, number(0), "power of the differences")),
    build=lambda params, _seed, _device: make_pipeline(Nearest(**params)),
    grid=lambda _: {"power": (1.0, 2.0)},
    scores="decision",
)
SCALED = dataclasses.replace(
    DESCRIBED, build=lambda params, _seed, _device: make_pipeline(StandardScaler(), Nearest(**params))
)
OWN = f"{__name__}:Nearest"
TYPE = f"{__name__}.Nearest"


def fit(name, data, **params):
    rows = LabelledRows(data.X, data.y, np.arange(200), np.arange(200, 300), data.classes)
    return fit_head(name, rows, FitOptions(params, trusted=[__name__]))


@pytest.fixture
def declared(declare):
    declare(
        "frostline.heads",
        nearest=OWN,
        described=f"{__name__}:DESCRIBED",
        scaled=f"{__name__}:SCALED",
        broken="frostline.no_such_module:Head",
        wrong="json:dumps",
    )


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("sklearn.naive_bayes:GaussianNB", {"var_smoothing": 1e-3}),
        ("sklearn.linear_model:SGDClassifier", {"alpha": 0.01}),
        ("sklearn.discriminant_analysis:QuadraticDiscriminantAnalysis", {"reg_param": 0.5}),
    ],
)
def test_scikit_learn_classifier_by_name_fits_and_loads_without_trust(name, params, blobs, tmp_path):
    head = fit(name, blobs, **params)
    assert head.params == params
    assert (head.predict(blobs.X) == blobs.y).mean() > 0.6
    assert np.allclose(head.predict_proba(blobs.X).sum(axis=1), 1)
    save_head(head, tmp_path)
    loaded = load_head(tmp_path)
    assert np.array_equal(loaded.predict_proba(blobs.X), head.predict_proba(blobs.X))
    assert foreign_types(head.estimator) == ()


def test_seed_sets_random_state_if_supported():
    name = "sklearn.ensemble:ExtraTreesClassifier"
    kind = find_head(name)
    assert kind.build({}, 7, "cpu")[-1].random_state == 7
    assert kind.build({"random_state": 3}, 7, "cpu")[-1].random_state == 3
    assert (
        "random_state" not in find_head("sklearn.naive_bayes:GaussianNB").build({}, 7, "cpu")[-1].get_params()
    )


def test_user_defined_head_loads_only_if_trusted(blobs, tmp_path):
    head = fit(OWN, blobs, power=1)
    assert foreign_types(head.estimator) == (TYPE,)
    save_head(head, tmp_path)
    with pytest.raises(HeadFormatError, match=f"--trust-module {TYPE}"):
        load_head(tmp_path)
    for trusted in (TYPE, __name__, __name__.partition(".")[0]):
        loaded = load_head(tmp_path, trusted=[trusted])
        assert np.array_equal(loaded.predict_proba(blobs.X), head.predict_proba(blobs.X))
    with pytest.raises(HeadFormatError, match=f"--trust-module {TYPE}"):
        load_head(tmp_path, trusted=[TYPE[:-1], f"{TYPE}s", "", "numpy"])


def test_file_cannot_mark_itself_as_trusted(blobs, tmp_path):
    save_head(fit(OWN, blobs), tmp_path)
    record = json.loads((tmp_path / "head.json").read_text())
    (tmp_path / "head.json").write_text(json.dumps({**record, "name": "sklearn.naive_bayes:GaussianNB"}))
    with pytest.raises(HeadFormatError, match="holds types"):
        load_head(tmp_path)
    (tmp_path / "head.json").write_text(json.dumps({**record, "name": "ridge", "params": {}}))
    with pytest.raises(HeadFormatError, match="which no built-in head does"):
        load_head(tmp_path)


def test_the_named_module_of_a_file_is_not_imported(blobs, tmp_path):
    save_head(fit("sklearn.naive_bayes:GaussianNB", blobs), tmp_path)
    record = json.loads((tmp_path / "head.json").read_text())
    (tmp_path / "head.json").write_text(json.dumps({**record, "name": "antigravity:fly"}))
    head = load_head(tmp_path)
    assert "antigravity" not in sys.modules
    assert isinstance(head.estimator[-1], GaussianNB)
    head.predict_proba(blobs.X)


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """A module whose import leaves a file."""
    folder = tmp_path / "modules"
    (folder / "stranger").mkdir(parents=True)
    (folder / "stranger" / "__init__.py").write_text("")
    mark = tmp_path / "imported"
    code = "from sklearn.naive_bayes import GaussianNB as Head\nimport pathlib\n"
    (folder / "stranger" / "heads.py").write_text(f"{code}pathlib.Path({str(mark)!r}).touch()\n")
    monkeypatch.syspath_prepend(folder)
    for name in ("stranger", "stranger.heads"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return mark


@pytest.mark.parametrize("trusted", [(), ("strange",), ("stranger.head",), ("stranger.heads.Heads",), ("",)])
def test_a_module_that_is_not_trusted_is_not_imported(trusted, stranger, blobs):
    rows = LabelledRows(blobs.X, blobs.y, np.arange(200), np.arange(200, 300), blobs.classes)
    message = r"module 'stranger.heads' runs its code.*--trust-module stranger\.heads; in Python, trusted="
    with pytest.raises(HeadError, match=message):
        fit_head("stranger.heads:Head", rows, FitOptions(trusted=trusted))
    with pytest.raises(HeadError, match=message):
        compare_heads(blobs.X, blobs.y, ["stranger.heads:Head"], trusted=trusted)
    assert not stranger.exists()


@pytest.mark.parametrize("trusted", ["stranger", "stranger.heads", "stranger.heads.Head"])
def test_a_module_is_imported_if_it_its_package_or_the_class_is_trusted(trusted, stranger):
    assert find_head("stranger.heads:Head", [trusted]).build({}, 0, "cpu")
    assert stranger.exists()


def test_a_declared_class_is_imported_by_its_path(stranger, declare):
    declare("frostline.heads", strange="stranger.heads:Head")
    assert find_head("stranger.heads:Head").build({}, 0, "cpu")
    assert stranger.exists()


@pytest.mark.usefixtures("declared")
def test_registered_head_loads_by_name_without_trust(blobs, tmp_path):
    head = fit("nearest", blobs)
    save_head(head, tmp_path)
    assert np.array_equal(load_head(tmp_path).predict(blobs.X), head.predict(blobs.X))
    with pytest.raises(HeadError, match=r"no head 'neerest' \(did you mean 'nearest'"):
        find_head("neerest")


@pytest.mark.usefixtures("declared")
def test_registered_head_kind_is_searched_and_loaded(blobs, tmp_path):
    head = fit("described", blobs)
    assert [trial["power"] for trial in head.trials] == [1.0, 2.0]
    assert head.params["power"] in {1.0, 2.0}
    save_head(head, tmp_path)
    assert np.array_equal(load_head(tmp_path).predict(blobs.X), head.predict(blobs.X))
    with pytest.raises(HeadError, match=r"head 'described' has no parameter 'pover' \(did you mean 'power'"):
        parse_params("described", ["pover=2"])


@pytest.mark.usefixtures("declared")
def test_registered_head_of_several_steps_loads_with_these_steps_alone(blobs, tmp_path):
    head = fit("scaled", blobs)
    save_head(head, tmp_path)
    assert np.array_equal(load_head(tmp_path).predict_proba(blobs.X), head.predict_proba(blobs.X))
    record = json.loads((tmp_path / "head.json").read_text())
    (tmp_path / "head.json").write_text(json.dumps({**record, "name": "described"}))
    with pytest.raises(HeadFormatError, match="got steps StandardScaler, Nearest, expected Nearest"):
        load_head(tmp_path)


@pytest.mark.usefixtures("declared")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken", r"head 'broken' \(frostline\.no_such_module:Head\) can't be imported"),
        ("wrong", r"head 'wrong' \(json:dumps\) is <function dumps.*expected the class of a scikit-learn"),
    ],
)
def test_broken_registration_is_named_in_error(name, message):
    with pytest.raises(HeadError, match=message):
        find_head(name)


def test_unregistered_head_is_not_loaded(blobs, tmp_path):
    save_head(fit("ridge", blobs), tmp_path)
    record = json.loads((tmp_path / "head.json").read_text())
    (tmp_path / "head.json").write_text(json.dumps({**record, "name": "nearest"}))
    with pytest.raises(HeadFormatError, match="no head 'nearest'"):
        load_head(tmp_path)


def test_parameters_are_literals_or_text():
    params = parse_params(OWN, ["power=3", "metric=manhattan"], [__name__])
    assert params == {"power": 3, "metric": "manhattan"}
    assert find_head(OWN, [__name__]).check({"power": (1,), "metric": "None"}) == {
        "power": (1,),
        "metric": None,
    }


@pytest.mark.parametrize(
    ("name", "texts", "message"),
    [
        ("no.such:Thing", [], "can't be imported: No module named 'no'"),
        ("sklearn.svm:Nothing", [], "can't be imported"),
        ("sklearn.svm:", [], "can't be imported"),
        ("pathlib:Path", [], "expected the class of a scikit-learn classifier"),
        ("json:dumps", [], "expected the class of a scikit-learn classifier"),
        (OWN, ["pover=1"], r"has no parameter 'pover' \(did you mean 'power'"),
    ],
)
def test_non_classifier_raises(name, texts, message):
    with pytest.raises(HeadError, match=message):
        parse_params(name, texts, ["no.such", "pathlib", "json", __name__])


def test_classifier_without_scores_raises(blobs):
    with pytest.raises(HeadError, match="predicts labels only"):
        fit(f"{__name__}:LabelsOnly", blobs)


@pytest.mark.parametrize("name", ["forest", "boosting"])
def test_invalid_tree_branches_raise(name, blobs, tmp_path):
    small = {"n_estimators": 3} if name == "forest" else {"max_iter": 3, "min_samples_leaf": 5}
    head = fit(name, blobs, **small)
    check_contents(head.estimator)
    head.estimator[-1].n_features_in_ = 1
    message = "a tree is for 12 features, expected 1" if name == "forest" else "that lead outside"
    with pytest.raises(HeadError, match=message):
        check_contents(head.estimator)
    head.estimator[-1].n_features_in_ = 12
    if name == "forest":
        nodes = head.estimator[-1].estimators_[0].tree_.children_left
    else:
        nodes = head.estimator[-1]._predictors[0][0].nodes["left"]
    nodes[0] = 0 if name == "boosting" else 10**6
    save_head(head, tmp_path)
    with pytest.raises(HeadFormatError, match="lead outside"):
        load_head(tmp_path)
    assert (
        json.loads((tmp_path / "head.json").read_text())["sha256"]
        == hashlib.sha256((tmp_path / "head.skops").read_bytes()).hexdigest()
    )


def test_suggested_options_are_quoted_for_the_shell():
    assert trust_option("a.B", "x; rm -rf y") == "--trust-module a.B --trust-module 'x; rm -rf y'"
