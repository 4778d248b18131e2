"""The k nearest neighbours are the true ones, whatever the blocks, the formats, the ties and the rounding."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import KNeighborsClassifier

from frostline.classifiers.heads.knn import KNNHead
from frostline.numerics import neighbors
from frostline.numerics.neighbors import RowSearch, Vectors

SMALL = 2**14  # bytes: blocks of a few rows


def distances(queries, rows, metric):
    """Float64 distances from differences: what the search promises."""
    queries, rows = queries.astype(np.float64), rows.astype(np.float64)
    if metric == "euclidean":
        return np.sqrt(((queries[:, None] - rows) ** 2).sum(axis=2))
    return pairwise_distances(queries, rows, metric="cosine")


def assert_nearest(found, queries, rows, metric, tolerance):
    """The neighbours are the k nearest up to a tolerance, in order, with the distances that they have."""
    truth = distances(queries, rows, metric)
    k = found.rows.shape[1]
    np.testing.assert_allclose(np.take_along_axis(truth, found.rows, 1), found.distances, atol=tolerance)
    np.testing.assert_allclose(found.distances, np.sort(truth, axis=1)[:, :k], atol=tolerance)
    assert (np.diff(found.distances) >= 0).all()
    assert all(len(set(line)) == k for line in found.rows.tolist())


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("memory_bytes", [SMALL, 2**28])
def test_neighbours_are_those_of_scikit_learn(metric, dtype, memory_bytes):
    rng = np.random.default_rng(0)
    X, queries = rng.normal(1, 1, (201, 17)).astype(dtype), rng.normal(1, 1, (33, 17)).astype(dtype)
    y = rng.choice(["ant", "bee", "cat"], 201)
    ours = KNNHead(7, metric=metric, memory_bytes=memory_bytes, device="cpu").fit(X, y)
    theirs = KNeighborsClassifier(7, metric=metric, algorithm="brute").fit(X.astype(float), y)
    wide = queries.astype(float)
    found, (expected, rows) = ours.kneighbors(queries), theirs.kneighbors(wide)
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_allclose(found.distances, expected, rtol=1e-9)
    np.testing.assert_allclose(ours.predict_proba(queries), theirs.predict_proba(wide), atol=1e-15)
    np.testing.assert_array_equal(ours.predict(queries), theirs.predict(wide))
    itself, (expected, rows) = ours.kneighbors(), theirs.kneighbors()
    np.testing.assert_array_equal(itself.rows, rows)
    np.testing.assert_allclose(itself.distances, expected, rtol=1e-9)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_equally_near_rows_come_lowest_first(metric):
    rng = np.random.default_rng(0)
    few = rng.normal(size=(20, 33)).astype(np.float32)
    which = rng.integers(0, 20, 1000)
    found = (
        KNNHead(30, metric=metric, memory_bytes=2**16, device="cpu").fit(few[which], which).kneighbors(few)
    )
    for query, rows in enumerate(found.rows):
        np.testing.assert_array_equal(rows, np.flatnonzero(which == query)[:30])
    np.testing.assert_allclose(found.distances, 0, atol=1e-30)


def test_neighbours_are_exact_within_single_precision(monkeypatch):
    """Rows so near to each other that float32 products order them at random."""
    searches = []
    again = RowSearch._search_again
    monkeypatch.setattr(
        RowSearch, "_search_again", lambda self, *args: (searches.append(len(args[1])), again(self, *args))
    )
    rng = np.random.default_rng(0)
    base, steps = rng.normal(size=40), rng.permutation(500)
    towards = np.linalg.qr(np.stack([base, rng.normal(size=40)]).T)[0][:, 1]
    X = base + 1e-9 * steps[:, None] * towards
    X[steps == 499] *= -1e3  # far from the rest: no origin is near both
    for metric in ("cosine", "euclidean"):
        found = (
            KNNHead(6, metric=metric, memory_bytes=SMALL, device="cpu")
            .fit(X, steps % 2)
            .kneighbors(base[None])
        )
        np.testing.assert_array_equal(steps[found.rows[0]], np.arange(6))
    assert searches == [1, 1]


@settings(max_examples=60)
@given(
    n=st.integers(1, 60),
    k=st.integers(1, 12),
    metric=st.sampled_from(["cosine", "euclidean"]),
    dtype=st.sampled_from([np.float16, np.float32, np.float64]),
    memory_bytes=st.sampled_from([8000, 2**20]),
    data=st.data(),
)
def test_any_data_gives_the_true_neighbours(n, k, *, metric, dtype, memory_bytes, data):
    q, d, seed = (data.draw(st.integers(1, most)) for most in (20, 20, 2**16))
    levels = data.draw(st.sampled_from([1, 2, 5, 1000]))
    scale, offset = data.draw(st.sampled_from([1e-3, 1, 1e3])), data.draw(st.sampled_from([0, 0, 10]))
    rng = np.random.default_rng(seed)
    X = (rng.integers(-levels, levels + 1, (n + q, d)) / levels * scale + offset * scale).astype(dtype)
    rows, queries, k = X[:n], X[n:], min(k, n)
    search = RowSearch(Vectors(rows), metric=metric, device=torch.device("cpu"), memory_bytes=memory_bytes)
    # scikit-learn's cosine is itself good to some 1e-16 only.
    tolerance = 1e-14 if metric == "cosine" else 1e-12 * scale * (1 + offset)
    found = search.nearest(Vectors(queries), k)
    assert_nearest(found, queries, rows, metric, tolerance)
    equal = (rows[found.rows[:, 1:]] == rows[found.rows[:, :-1]]).all(axis=2)
    assert (np.diff(found.rows)[equal] > 0).all()


@pytest.mark.parametrize("scale", [1e-40, 1e-30, 1e30])
def test_rows_whose_squares_leave_float32(scale):
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(80, 9)) * scale).astype(np.float32)
    for metric in ("cosine", "euclidean"):
        found = (
            KNNHead(5, metric=metric, memory_bytes=SMALL, device="cpu")
            .fit(X, np.arange(80) % 3)
            .kneighbors(X)
        )
        wide = X.astype(np.float64) / scale
        np.testing.assert_array_equal(found.rows, np.argsort(distances(wide, wide, metric), axis=1)[:, :5])


def test_zero_vector_has_distance_one_to_all_rows():
    X = np.array([[0, 0], [1, 0], [0, 0], [-1, 0]], np.float32)
    found = KNNHead(4, device="cpu").fit(X, range(4)).kneighbors(X[:2])
    np.testing.assert_array_equal(found.distances, [[1, 1, 1, 1], [0, 1, 1, 2]])
    np.testing.assert_array_equal(found.rows, [[0, 1, 2, 3], [1, 0, 2, 3]])


def test_zero_vector_is_equally_far_from_rows_whose_length_is_rounded():
    X = np.random.default_rng(0).normal(size=(200, 7)).astype(np.float32)
    found = RowSearch(Vectors(X), metric="cosine", device=torch.device("cpu")).nearest(
        Vectors(np.zeros((1, 7), np.float32)), 200
    )
    assert (found.distances == 1).all()
    np.testing.assert_array_equal(found.rows, [np.arange(200)])


def test_a_caller_that_allows_tf32_gets_the_same_neighbours():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 64)).astype(np.float32)
    head = KNNHead(5, device="cpu").fit(X, np.arange(400) % 2)
    expected = head.kneighbors(X)
    torch.set_float32_matmul_precision("medium")
    try:
        found = head.kneighbors(X)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    np.testing.assert_array_equal(found.rows, expected.rows)


def test_a_read_only_memory_map_is_read_in_place(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 24)).astype(np.float16)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    head = KNNHead(5, memory_bytes=SMALL, device="cpu").fit(mapped, np.arange(200) % 2)
    assert np.shares_memory(head.rows_, mapped)
    np.testing.assert_array_equal(
        head.kneighbors(mapped).rows, KNNHead(5, device="cpu").fit(X, np.arange(200) % 2).kneighbors(X).rows
    )


def test_blocks_stay_within_the_memory_asked_for(monkeypatch):
    sizes = []
    take = neighbors._tensor
    monkeypatch.setattr(neighbors, "_tensor", lambda rows: (sizes.append(rows.nbytes), take(rows))[1])
    X = np.random.default_rng(0).normal(size=(3000, 64)).astype(np.float32)
    head = KNNHead(5, memory_bytes=2**20, device="cpu").fit(X, np.arange(3000) % 2)
    search = RowSearch(Vectors(X), metric="cosine", device=torch.device("cpu"), memory_bytes=2**20)
    assert search._scores.nbytes <= 2**18
    head.kneighbors(X[:600])
    assert 0 < max(sizes) <= 2**18


@pytest.mark.cuda
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_gpu_and_cpu_agree(metric):
    rng = np.random.default_rng(0)
    X, queries = (
        rng.normal(size=(5000, 256)).astype(np.float16),
        rng.normal(size=(300, 256)).astype(np.float16),
    )
    y = np.arange(5000) % 7
    found, expected = (
        KNNHead(10, metric=metric, device=device, memory_bytes=2**22).fit(X, y).kneighbors(queries)
        for device in ("cuda", "cpu")
    )
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_allclose(found.distances, expected.distances, rtol=1e-12)
