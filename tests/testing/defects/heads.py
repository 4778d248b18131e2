"""Heads with one defect each."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.pipeline import make_pipeline

from frostline.classifiers import FittedHead
from frostline.classifiers.heads.kinds import HeadKind
from frostline.classifiers.heads.parameters import Parameter, by_name, number
from frostline.testing import HeadContract


class Nearest(ClassifierMixin, BaseEstimator):
    """Probabilities by the distance to the centres of the classes."""

    def __init__(self, power=2.0):
        self.power = power

    def fit(self, X, y):
        self.classes_, self.n_features_in_ = np.unique(y), X.shape[1]
        self.scale_ = np.std(X, axis=0)
        self.centres_ = np.stack([np.mean(X[y == each], axis=0) for each in self.classes_])
        return self

    def predict_proba(self, X):
        apart = np.abs(X[:, None] - self.centres_) / self.scale_
        return softmax(-(apart.astype(np.float64) ** self.power).sum(axis=2), axis=1)

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def kind(estimator=Nearest, *, of=HeadKind, **changes):
    fields = {
        "name": "",
        "summary": "nearest class centre",
        "parameters": by_name(Parameter("power", 2.0, number(0), "power of the differences")),
        "build": lambda params, _seed, _device: make_pipeline(estimator(**params)),
        "grid": lambda _fixed: {"power": (1.0, 2.0)},
    }
    return of(**{**fields, **changes})


class Declared(HeadContract):
    name = "broken"
    fails = frozenset()

    @pytest.fixture(autouse=True)
    def _declared(self, declare):
        declare("frostline.heads", broken=f"{__name__}:{type(self).__name__}.KIND")


class TestWithoutDefect(Declared):
    KIND = kind()


class TestSummaryOfTwoLines(Declared):
    KIND = kind(summary="nearest\nclass centre")
    fails = frozenset({"test_kind_is_described"})


class TestBuildsNoClassifier(Declared):
    KIND = kind(build=lambda _params, _seed, _device: object())
    fails = frozenset({"test_it_builds_classifiers_from_defaults_and_from_each_candidate"})


class TestDefaultOutOfRange(Declared):
    KIND = kind(parameters=by_name(Parameter("power", 0.0, number(0), "power of the differences")))
    fails = frozenset({"test_every_default_and_candidate_is_a_value_that_can_be_written"})


class TestEqualCandidates(Declared):
    KIND = kind(grid=lambda _fixed: {"power": (1.0, 1.0)})
    fails = frozenset({"test_candidates_differ_and_leave_fixed_parameters_alone"})


class Lenient(HeadKind):
    def check(self, params):
        return dict(params)


class TestAnyParameter(Declared):
    KIND = kind(of=Lenient)
    fails = frozenset({"test_unknown_parameters_are_refused_by_name"})


class Doubling(Nearest):
    def __init__(self, power=2.0):
        self.power = float(power) * 2


class TestConstructorChangesItsArguments(Declared):
    KIND = kind(Doubling)
    fails = frozenset({"test_an_estimator_is_cloned_with_its_parameters"})


class Backwards(Nearest):
    def predict_proba(self, X):
        return super().predict_proba(X)[:, ::-1]


class TestColumnsInAnotherOrder(Declared):
    KIND = kind(Backwards)
    fails = frozenset({"test_it_learns_and_gives_probabilities"})


class Double(Nearest):
    def predict_proba(self, X):
        return 2 * super().predict_proba(X)


class TestProbabilitiesOfTwo(Declared):
    KIND = kind(Double)
    fails = frozenset({"test_scores_of_the_estimator_are_of_the_declared_kind"})


class Counting(Nearest):
    def fit(self, X, y):
        super().fit(X, np.unique(y, return_inverse=True)[1])
        return self


class TestClassesAreCounted(Declared):
    KIND = kind(Counting)
    fails = frozenset({"test_classes_without_rows_are_never_predicted"})


class Random(Nearest):
    def fit(self, X, y):
        super().fit(X, y)
        self.centres_ = self.centres_ + np.random.default_rng().normal(size=self.centres_.shape) / 1e3
        return self


class TestNoSeed(Declared):
    KIND = kind(Random)
    fails = frozenset({"test_the_same_seed_gives_the_same_head"})


class Warm(Nearest):
    def fit(self, X, y):
        scale = getattr(self, "scale_", None)
        super().fit(X, y)
        self.scale_ = self.scale_ if scale is None else scale
        return self


class TestRemembersTheFirstFit(Declared):
    KIND = kind(Warm)
    fails = frozenset({"test_a_second_fit_forgets_the_first"})


class Centring(Nearest):
    def fit(self, X, y):
        X -= X.mean(axis=0)
        return super().fit(X, y)

    def predict_proba(self, X):
        return super().predict_proba(X - X.mean(axis=0))


class TestChangesTheFeatures(Declared):
    KIND = kind(Centring)
    fails = frozenset({"test_features_are_read_and_not_changed"})


class DoubleOnly(Nearest):
    def fit(self, X, y):
        if X.dtype != np.float64:
            raise ValueError(f"got {X.dtype}, expected float64")
        return super().fit(X, y)


class TestDoublePrecisionOnly(Declared):
    KIND = kind(DoubleOnly)
    fails = frozenset({"test_half_precision_features_are_accepted"})


class TestFeaturesAreNotChecked(Declared):
    KIND = kind()
    fails = frozenset(
        {"test_features_that_are_not_finite_are_refused", "test_features_of_another_length_are_refused"}
    )

    @pytest.fixture(autouse=True)
    def _unchecked(self, monkeypatch):
        monkeypatch.setattr(FittedHead, "predict", lambda _self, X: np.zeros(len(X), np.int64))


class Scale:
    def __init__(self, width):
        self.width = width


class Nested(Nearest):
    def fit(self, X, y):
        super().fit(X, y)
        self.of_own_type_ = Scale(float(self.scale_.mean()))
        return self


class TestHoldsATypeOfItsOwn(Declared):
    KIND = kind(Nested)
    fails = frozenset({"test_a_saved_head_loads_with_equal_probabilities"})
