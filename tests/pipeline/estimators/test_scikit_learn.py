"""The transformer among scikit-learn's pipelines and searches, and the rules of its estimators.

`check_estimator` and `parametrize_with_checks` run their checks on two-dimensional arrays of numbers, which are no
images, and skip an estimator whose tags say that it takes none. The checks of their list that need no such input run
here as they are. Those on input are repeated with images.
"""

import doctest
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from joblib import parallel_config
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.experimental import enable_halving_search_cv  # noqa: F401  # makes the next import possible
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline, make_union
from sklearn.utils import estimator_checks, get_tags

import frostline
from frostline import ImageFeatures, KNNHead, LinearHead
from frostline.features.cache import FeatureCache
from frostline.pipeline.errors import EstimatorError
from frostline.pipeline.estimators import image_features
from tests.helpers.needs import needs_polars


def pipeline_of(features):
    return make_pipeline(features, LogisticRegression(max_iter=1000))


def test_a_grid_search_over_heads_computes_each_image_once_and_scores_as_on_arrays(
    make, digit_paths, forwarded
):
    paths, labels = digit_paths
    heads = [LinearHead(device="cpu"), KNNHead(), LogisticRegression(max_iter=1000)]
    search = GridSearchCV(pipeline_of(make()), {"logisticregression": heads}, cv=5, error_score="raise")
    search.fit(paths, labels)
    assert sum(forwarded) == 60
    X = make().transform(paths)
    on_arrays = GridSearchCV(make_pipeline("passthrough", heads[2]), {"logisticregression": heads}, cv=5)
    on_arrays.fit(X, labels)
    for name in ("mean_test_score", "std_test_score"):
        np.testing.assert_array_equal(search.cv_results_[name], on_arrays.cv_results_[name])
    np.testing.assert_array_equal(search.predict(paths), on_arrays.predict(X))
    assert sum(forwarded) == 60


def test_a_grid_over_backbones_computes_each_image_once_per_backbone(make, digit_arrays, forwarded):
    images, labels = digit_arrays
    grid = {
        "imagefeatures__backbone": ["timm:test_resnet", "timm:test_vit"],
        "imagefeatures__layer": ["embedding"],
        "imagefeatures__image_size": [160],
        "logisticregression__C": [0.1, 1.0],
    }
    search = GridSearchCV(pipeline_of(make()), grid, cv=3, error_score="raise").fit(images[:30], labels[:30])
    assert sum(forwarded) == 60
    assert search.best_params_["imagefeatures__backbone"] in grid["imagefeatures__backbone"]


def test_halving_search(make, digit_arrays, forwarded):
    images, labels = digit_arrays
    search = HalvingGridSearchCV(
        make_pipeline(make(), KNeighborsClassifier()),
        {"kneighborsclassifier__n_neighbors": [1, 3]},
        cv=2,
        random_state=0,
        error_score="raise",
    )
    search.fit(images, labels)
    assert sum(forwarded) <= 60


def test_processes_share_the_store(make, digit_paths, tmp_path):
    paths, labels = digit_paths
    side_by_side = cross_val_score(pipeline_of(make()), paths, labels, cv=2, n_jobs=2, error_score="raise")
    caches = [FeatureCache.open(path) for path in (tmp_path / "store").rglob("*.h5")]
    contents = [bytes(row) for cache in caches for row in cache.content]
    assert len(contents) == len({*contents}) == 60  # none was computed twice
    np.testing.assert_array_equal(side_by_side, cross_val_score(pipeline_of(make()), paths, labels, cv=2))


def test_threads_wait_for_each_other(make, digit_arrays, forwarded):
    images, labels = digit_arrays
    features = make()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: clone(features).fit_transform(images), range(4)))
    assert sum(forwarded) == 60
    for each in found[1:]:
        np.testing.assert_array_equal(each, found[0])
    with parallel_config("threading", n_jobs=2):
        assert cross_val_score(pipeline_of(features), images, labels, cv=3, error_score="raise").mean() > 0.5
    assert sum(forwarded) == 60


@pytest.mark.parametrize("column", ["image", ["image"]])
def test_column_of_a_table(make, digit_paths, column):
    paths, labels = digit_paths
    table = pd.DataFrame({"image": paths, "size": np.arange(60.0)}, index=np.arange(100, 160))
    table_features = make_column_transformer((make(), column), ("passthrough", ["size"]))
    X = table_features.fit_transform(table)
    np.testing.assert_array_equal(X[:, :-1].astype(np.float32), make().transform(paths))
    assert X[5, -1] == 5
    table_features.set_output(transform="pandas")
    frame = table_features.fit_transform(table)
    assert frame.columns[0].startswith("imagefeatures__test_resnet")
    assert frame.index.tolist() == table.index.tolist()
    assert pipeline_of(table_features).fit(table, labels).score(table, labels) > 0.5


@needs_polars
def test_column_of_a_polars_table(make, digit_paths):
    import polars as pl

    paths, _ = digit_paths
    table = pl.DataFrame({"image": paths, "size": np.arange(60.0)})
    for column in ("image", ["image"]):
        both = make_column_transformer((make(), column), ("passthrough", ["size"]))
        frame = both.set_output(transform="polars").fit_transform(table)
        assert isinstance(frame, pl.DataFrame)
        np.testing.assert_array_equal(frame[:, :-1].to_numpy(), make().transform(paths))


def test_names_of_the_features(make, digit_paths):
    paths, _ = digit_paths
    features = make().set_output(transform="pandas")
    frame = features.fit_transform(pd.DataFrame({"image": paths}, index=range(5, 65)))
    names = [f"test_resnet.r160_in1k_{number}" for number in range(96)]
    assert frame.columns.tolist() == names
    assert frame.index[0] == 5
    assert (frame.dtypes == np.float32).all()
    assert features.get_feature_names_out().tolist() == names
    assert features.get_feature_names_out(["image"]).tolist() == names
    assert features.feature_names_in_.tolist() == ["image"]
    assert (features.n_features_in_, features.n_features_out_) == (1, 96)
    for wrong, message in (
        (["picture"], "not equal to feature_names_in_: got 'picture', and the column was named 'image'"),
        ("image", "should have length equal to number of features"),
        ([], "should have length equal to number of features"),
        (["image", "size"], "should have length equal to number of features"),
        ([1], "expected the name of the column of images as text"),
    ):
        with pytest.raises(EstimatorError, match=message):
            features.get_feature_names_out(wrong)
        if wrong != ["picture"]:
            with pytest.raises(EstimatorError, match=message):
                make().get_feature_names_out(wrong)
    with pytest.raises(ValueError, match="feature names should match"):
        features.transform(pd.DataFrame({"picture": paths}))


def test_layers_side_by_side(make, digit_paths):
    paths, _ = digit_paths
    one, other = make(), make(layer="layer1:max")
    union = make_union(one, other).set_output(transform="pandas")
    frame = union.fit_transform(paths)
    np.testing.assert_array_equal(frame.to_numpy(), np.hstack([one.transform(paths), other.transform(paths)]))
    assert frame.columns[-1].startswith("imagefeatures-2__test_resnet.r160_in1k_layer1:max_")


def test_transform_without_fit(make, digit_arrays):
    images = digit_arrays[0][:4]
    features = make()
    assert features.get_feature_names_out()[0] == "test_resnet.r160_in1k_0"
    found = features.transform(images)
    assert not hasattr(features, "spec_")
    np.testing.assert_array_equal(found, make().fit_transform(images))
    assert make().set_output(transform="pandas").transform(images).shape == (4, 96)


@pytest.mark.parametrize("name", ["fitted", "unfitted"])
def test_clone_and_pickle(make, digit_arrays, name):
    images = digit_arrays[0][:4]
    features = make(on_error="nan", batch_size=8)
    found = features.fit_transform(images)
    copied = clone(features)
    assert not [attribute for attribute in vars(copied) if attribute.endswith("_")]
    assert copied.get_params() == features.get_params()
    stored = pickle.dumps(features if name == "fitted" else copied)
    assert len(stored) < 3000
    np.testing.assert_array_equal(pickle.loads(stored).transform(images), found)  # noqa: S301


def test_fitting_again_changes_nothing(make, digit_arrays):
    images = digit_arrays[0][:4]
    features = make()
    assert features.fit(images) is features
    before = dict(vars(features))
    features.fit(images[::-1], y=[0, 1, 0, 1])
    assert vars(features) == before


def test_rows_do_not_depend_on_each_other(make, digit_arrays, tmp_path):
    images = digit_arrays[0][:5]
    whole = make().transform(images)
    for row in range(5):
        alone = make(cache=tmp_path / str(row)).transform(images[row : row + 1])
        np.testing.assert_array_equal(alone, whole[row : row + 1])


def test_tags(make):
    tags = get_tags(make())
    given = tags.input_tags
    assert (given.one_d_array, given.two_d_array, given.three_d_array, given.string) == (
        True,
        False,
        True,
        True,
    )
    assert not tags.requires_fit
    assert not given.allow_nan
    assert tags.estimator_type is None


@pytest.mark.parametrize(
    "check",
    [
        estimator_checks.check_estimator_cloneable,
        estimator_checks.check_estimator_tags_renamed,
        estimator_checks.check_valid_tag_types,
        estimator_checks.check_estimator_repr,
        estimator_checks.check_no_attributes_set_in_init,
        estimator_checks.check_do_not_raise_errors_in_init_or_set_params,
        estimator_checks.check_mixin_order,
        estimator_checks.check_parameters_default_constructible,
        estimator_checks.check_get_params_invariance,
        estimator_checks.check_set_params,
    ],
    ids=lambda check: check.__name__,
)
def test_check_of_scikit_learn(check):
    check("ImageFeatures", ImageFeatures())


def test_example_of_the_docstring(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (example,) = [
        each
        for each in doctest.DocTestFinder().find(frostline.ImageFeatures, "ImageFeatures")
        if each.examples
    ]
    failures = []
    doctest.DocTestRunner().run(example, out=failures.append)
    assert not failures, "".join(failures)
    assert example.globs is not vars(image_features)
