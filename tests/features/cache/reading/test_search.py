"""A cache finds its nearest rows as brute force in float64 does, and never a failed one."""

import numpy as np
import pytest

from frostline.errors import OptionError
from frostline.features.errors import LayerError, SearchError
from tests.helpers.vectors import write_vectors


def brute_force(X, queries, k, metric, own=None):
    X, queries = np.asarray(X, np.float64), np.asarray(queries, np.float64)
    if metric == "cosine":
        X, queries = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (X, queries))
        away = 1 - queries @ X.T
    else:
        away = np.linalg.norm(queries[:, None] - X, axis=2)
    away = np.round(away, 12)  # equal rows have equal distances
    if own is not None:
        away[np.arange(len(own)), own] = np.inf
    order = np.argsort(away, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(away, order, axis=1)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_neighbours_are_those_of_brute_force_with_ties(tmp_path, metric, dtype):
    rng = np.random.default_rng(0)
    few = rng.integers(-8, 9, (90, 12)).astype(np.float32)
    cache = write_vectors(tmp_path / "c.h5", few[rng.integers(0, 90, 300)], dtype=dtype)  # many equal rows
    X, queries = np.array(cache.features()), rng.normal(size=(7, 12))
    found = cache.search(queries, k=9, metric=metric)
    rows, distances = brute_force(X, queries, 9, metric)
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_allclose(found.distances, distances, atol=1e-9)
    own = rng.permutation(300)[:20]
    found = cache.search(own, k=9, metric=metric)
    rows, distances = brute_force(X, X[own], 9, metric, own)
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_array_equal(found.ids, cache.ids[rows])
    by_id = cache.search(cache.ids[own].tolist(), k=9, metric=metric)
    np.testing.assert_array_equal(by_id.rows, rows)
    with_self = cache.search(own, k=300, metric=metric, exclude_self=False)
    assert (np.sort(with_self.rows, axis=1) == np.arange(300)).all()


def test_failed_rows_are_never_found_and_filters_hold(tmp_path):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(60, 5))
    failed = {3, 17, 40}
    cache = write_vectors(tmp_path / "c.h5", X, failed=failed, split=np.arange(60) % 4)
    assert np.isnan(cache.features()[3]).all()
    everything = cache.search(rng.normal(size=5), k=57)
    assert set(everything.rows[0].tolist()) == set(range(60)) - failed
    part = cache.search([0, 1], k=13, among=cache.split == 1)
    assert set(part.rows.ravel().tolist()) <= set(np.flatnonzero(cache.split == 1)) - failed
    listed = cache.search(0, k=2, among=[9, 5, 0, 17, 5])
    assert set(listed.rows[0].tolist()) == {5, 9}
    for query in (3, "00003.jpg", [1, 3]):
        with pytest.raises(SearchError, match=r"'00003\.jpg' has no features.*no image"):
            cache.search(query, k=2)


@pytest.mark.parametrize(
    ("query", "options", "message"),
    [
        ("00012.png", {}, r"has no image '00012\.png' \(did you mean '00012\.jpg'"),
        (60, {}, "queries: got row 60, expected 0 to 59"),
        (-1, {}, "queries: got row -1"),
        ([0.0] * 4, {}, r"got float64 of shape \(4,\), expected ids, row numbers, or vectors of 5 floats"),
        ([[0.0] * 5, [np.nan] * 5], {}, "vector 1 .* not finite"),
        ([], {}, "queries: got"),
        (["a", 1.5], {}, "has no image 'a'"),
        (0, {"k": 60}, "k: got 60, expected 1 to 59"),
        (0, {"k": 0}, "k: got 0"),
        (0, {"metric": "manhattan"}, "metric: got 'manhattan'"),
        (0, {"among": np.ones(5, bool)}, "among: got bool of shape"),
        (0, {"among": [0]}, "the row to search for is the only one to search"),
    ],
)
def test_bad_queries_are_refused(tmp_path, query, options, message):
    cache = write_vectors(tmp_path / "c.h5", np.random.default_rng(0).normal(size=(60, 5)))
    with pytest.raises(SearchError, match=message):
        cache.search(query, **{"k": 3, **options})


def test_several_layers_need_a_choice_and_an_unknown_device_is_named(tmp_path):
    X = np.random.default_rng(0).normal(size=(20, 5))
    cache = write_vectors(tmp_path / "c.h5", {"a": X, "b": -X[::-1]})
    with pytest.raises(LayerError, match="has several layers; choose one of a"):
        cache.search(0, k=2)
    first, second = (cache.search(0, k=2, layer=layer.key).rows for layer in cache.layers)
    np.testing.assert_array_equal(first, brute_force(X, X[:1], 2, "cosine", [0])[0])
    np.testing.assert_array_equal(second, brute_force(X[::-1], X[-1:], 2, "cosine", [0])[0])
    with pytest.raises(OptionError, match="device: got 'tpu'"):
        cache.search(0, k=2, layer=cache.layers[0].key, device="tpu")
