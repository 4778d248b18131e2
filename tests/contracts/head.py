"""Contract of heads, which classify feature vectors."""

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import DTypeLike
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline

from frostline.classifiers import FitOptions, FittedHead, LabelledRows, fit_head, load_head, save_head
from frostline.classifiers.errors import HeadError
from frostline.classifiers.fitting.fitted_head import gives, logits
from frostline.classifiers.heads.catalog import find_head
from frostline.classifiers.heads.kinds import Classifier, HeadKind
from frostline.classifiers.heads.parameters import as_text
from frostline.testing.blobs import Blobs

TRAIN, VAL, TEST = np.arange(120), np.arange(120, 180), np.arange(180, 240)


def _data(k: int) -> Blobs:
    return Blobs(240, 10, k, separation=1.5)


class HeadContract:
    """Tests of a head; see `frostline.classifiers.heads.kinds.HeadKind`.

    scikit-learn's `parametrize_with_checks` tests an estimator of one's own further.

    Attributes:
        name: Name of the head in the registry, or the import path ``module:Class`` of a classifier.
        params: Parameters that make a fit fast. The others are searched.
        accuracy: Smallest accepted accuracy on 60 test rows of two or three overlapping classes.
        trusted: Types that a saved head contains and neither skops nor the registry trusts; see `load_head`.

    Example:
        >>> class TestNearest(HeadContract):
        ...     name = "nearest"
        ...     params = {"power": 2}
    """

    name: ClassVar[str]
    params: ClassVar[Mapping[str, Any]] = {}
    accuracy: ClassVar[float] = 0.6
    trusted: ClassVar[tuple[str, ...]] = ()

    @property
    def kind(self) -> HeadKind:
        """Kind of head."""
        return find_head(self.name)

    def unfitted(self, seed: int = 0) -> Any:
        """Return an unfitted estimator with `params`."""
        kind = self.kind
        return kind.build(kind.complete(kind.check(self.params)), seed, "cpu")

    def fit(self, data: Blobs, *, seed: int = 0, X: Any = None) -> FittedHead:
        """Return the head with its search, fitted to the first rows of the data."""
        rows = LabelledRows(data.X if X is None else X, data.y, TRAIN, VAL, data.classes)
        return fit_head(self.name, rows, FitOptions(self.params, seed, "cpu"))

    @pytest.fixture(autouse=True)
    def _quick_fits_may_not_converge(self) -> Iterator[None]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            yield

    def test_kind_is_described(self) -> None:
        """Check the texts that users see, and the names of the parameters."""
        kind = self.kind
        assert kind.name == self.name
        assert len(kind.summary.splitlines()) == 1
        for name, parameter in kind.parameters.items():
            assert parameter.name == name
            assert parameter.summary
            assert parameter.values.expects

    def test_it_builds_classifiers_from_defaults_and_from_each_candidate(self) -> None:
        """Check that all parameters of the search can be built, for the device that was asked for."""
        kind = self.kind
        for candidate in ({}, *kind.candidates({}, 1000)):
            estimator = kind.build(kind.complete(candidate), 0, "cpu")
            assert isinstance(estimator, Classifier)
            assert isinstance(estimator, Pipeline) or hasattr(estimator, "to_tensors")  # how it is saved
            assert "cpu" in str(estimator.get_params().get("device", "cpu"))

    def test_every_default_and_candidate_is_a_value_that_can_be_written(self) -> None:
        """Check that the values in a run's record are read as the same values."""
        kind = self.kind
        for candidate in ({}, *kind.candidates({}, 1000)):
            params = kind.complete(candidate)
            assert kind.check({name: as_text(value) for name, value in params.items()}) == params

    def test_candidates_differ_and_leave_fixed_parameters_alone(self) -> None:
        """Check the grid of the search."""
        kind = self.kind
        candidates = kind.candidates({}, 1000)
        assert candidates
        assert len({str(candidate) for candidate in candidates}) == len(candidates)
        for name, value in candidates[0].items():
            assert name in kind.parameters
            assert not any(name in rest for rest in kind.candidates({name: value}, 1000))

    def test_unknown_parameters_are_refused_by_name(self) -> None:
        """Check that a parameter that the head does not have is an error."""
        with pytest.raises(HeadError, match="no_such_parameter"):
            self.kind.check({"no_such_parameter": 1})

    def test_an_estimator_is_cloned_with_its_parameters(self) -> None:
        """Check that parameters are those of the constructor, unchanged, and can be set again."""
        estimator = self.unfitted()
        again = clone(estimator)
        assert str(again.get_params()) == str(estimator.get_params())
        assert again.set_params(**estimator.get_params()) is again

    @pytest.mark.parametrize("k", [2, 3])
    def test_it_learns_and_gives_probabilities(self, k: int) -> None:
        """Check accuracy on test rows, and the probabilities of the classes in their order."""
        data = _data(k)
        head = self.fit(data)
        proba = head.predict_proba(data.X[TEST])
        assert proba.dtype == np.float64
        assert proba.shape == (60, k)
        assert np.abs(proba.sum(axis=1) - 1).max() < 1e-12
        assert (proba >= 0).all()
        assert np.array_equal(head.predict(data.X[TEST]), proba.argmax(axis=1))
        assert (head.predict(data.X[TEST]) == data.y[TEST]).mean() >= self.accuracy
        assert (head.name, head.classes, head.dim) == (self.name, data.classes, 10)
        assert head.params == self.kind.complete(head.params)

    @pytest.mark.parametrize("k", [2, 3])
    def test_scores_of_the_estimator_are_of_the_declared_kind(self, k: int) -> None:
        """Check probabilities or margins of the estimator, column by column, against its predictions."""
        data = _data(k)
        estimator = self.unfitted().fit(data.X[TRAIN], data.y[TRAIN])
        predicted = estimator.predict(data.X[TEST])
        if gives(self.kind, estimator) == "proba":
            proba = estimator.predict_proba(data.X[TEST])
            assert proba.shape == (60, k)
            assert (proba >= 0).all()
            assert np.abs(proba.sum(axis=1) - 1).max() < 1e-5
        found = logits(self.kind, estimator, data.X[TEST], k)
        assert np.isfinite(found).all()
        assert (found.argmax(axis=1) == predicted).mean() > 0.95  # pairwise votes may differ from margins

    def test_classes_without_rows_are_never_predicted(self) -> None:
        """Check sorted classes, and labels and probabilities where one of the classes has no rows."""
        data = _data(3)
        data.y = 2 * data.y + 1
        data.classes = tuple(f"class {i}" for i in range(7))
        unfitted = self.unfitted()
        estimator = unfitted.fit(data.X[TRAIN], data.y[TRAIN])
        assert estimator is unfitted
        assert np.asarray(estimator.classes_).tolist() == [1, 3, 5]
        assert estimator.n_features_in_ == 10
        predicted = estimator.predict(data.X)
        assert predicted.shape == (240,)
        assert set(predicted.tolist()) <= {1, 3, 5}
        proba = self.fit(data).predict_proba(data.X)
        assert proba.shape == (240, 7)
        assert (proba[:, ::2] == 0).all()

    def test_the_same_seed_gives_the_same_head(self) -> None:
        """Check that two fits give equal bytes."""
        data = _data(3)
        one, other = self.fit(data, seed=5), self.fit(data, seed=5)
        assert np.array_equal(one.predict_proba(data.X), other.predict_proba(data.X))
        assert one.params == other.params

    def test_a_second_fit_forgets_the_first(self) -> None:
        """Check that an estimator that is fitted again equals a new one."""
        first, second = Blobs(120, 7, 2, seed=1), _data(3)
        new = self.unfitted().fit(second.X[TRAIN], second.y[TRAIN])
        used = self.unfitted().fit(first.X, first.y).fit(second.X[TRAIN], second.y[TRAIN])
        assert np.array_equal(used.predict(second.X), new.predict(second.X))

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_features_are_read_and_not_changed(self, dtype: DTypeLike) -> None:
        """Check that arrays that can't be written, such as those of a cache, are accepted."""
        data = _data(3)
        X, y = data.X[TRAIN].astype(dtype), data.y[TRAIN].copy()
        X.flags.writeable = y.flags.writeable = False
        predicted = self.unfitted().fit(X, y).predict(X)
        assert predicted.shape == (120,)
        assert np.array_equal(X, data.X[TRAIN].astype(dtype))

    def test_half_precision_features_are_accepted(self) -> None:
        """Check features in the number formats of a cache."""
        data = _data(3)
        head = self.fit(data, X=data.X.astype(np.float16))
        assert head.dtype == "float16"
        assert (head.predict(data.X.astype(np.float16)[TEST]) == data.y[TEST]).mean() >= self.accuracy

    def test_features_that_are_not_finite_are_refused(self) -> None:
        """Check that NaN and infinity are errors in a fit and in a prediction."""
        data = _data(3)
        head = self.fit(data)
        for value in (np.nan, np.inf):
            X = data.X.copy()
            X[7, 3] = value
            with pytest.raises(HeadError):
                self.fit(data, X=X)
            with pytest.raises(HeadError):
                head.predict(X)

    def test_features_of_another_length_are_refused(self) -> None:
        """Check that a prediction of vectors of another width is an error."""
        data = _data(3)
        with pytest.raises(HeadError):
            self.fit(data).predict(data.X[:, :9])

    @pytest.mark.parametrize("k", [2, 3])
    def test_a_saved_head_loads_with_equal_probabilities(self, k: int, tmp_path: Path) -> None:
        """Check the round trip through a folder, without running code from it."""
        data = _data(k)
        head = self.fit(data)
        save_head(head, tmp_path)
        loaded = load_head(tmp_path, trusted=self.trusted)
        assert np.array_equal(loaded.predict_proba(data.X), head.predict_proba(data.X))
        assert (loaded.name, loaded.classes, loaded.params) == (head.name, head.classes, head.params)
        assert loaded.temperature == head.temperature
