"""Queries and rows of one group are not compared, whatever the blocks and the ties."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frostline.numerics.components import Components
from frostline.numerics.neighbors import RowSearch, Vectors

CPU = torch.device("cpu")


def brute_force(queries, rows, ours, theirs, k):
    """Squared distances of integers are exact, so that ties are ties."""
    squares = ((queries[:, None].astype(np.int64) - rows) ** 2).sum(axis=2).astype(float)
    squares[ours[:, None] == theirs] = np.inf
    order = np.argsort(squares, axis=1, kind="stable")[:, :k]
    near = np.sqrt(np.take_along_axis(squares, order, axis=1))
    return near, np.where(np.isfinite(near), order, -1)


@settings(max_examples=60)
@given(
    n=st.integers(1, 60),
    k=st.integers(1, 12),
    groups=st.integers(1, 8),
    levels=st.sampled_from([1, 2, 50]),
    memory_bytes=st.sampled_from([8000, 2**20]),
    seed=st.integers(0, 2**16),
)
def test_neighbours_of_other_groups_are_those_of_brute_force(n, k, *, groups, levels, memory_bytes, seed):
    rng = np.random.default_rng(seed)
    k = min(k, n)
    rows, queries = rng.integers(-levels, levels + 1, (n, 5)), rng.integers(-levels, levels + 1, (17, 5))
    theirs, ours = rng.integers(0, groups, n), rng.integers(-1, groups, 17)
    search = RowSearch(
        Vectors(rows.astype(np.float32), None, theirs),
        metric="euclidean",
        device=CPU,
        memory_bytes=memory_bytes,
    )
    found = search.nearest(Vectors(queries.astype(np.float32), None, ours), k)
    near, order = brute_force(queries, rows, ours, theirs, k)
    np.testing.assert_allclose(found.distances, near, rtol=1e-12)
    np.testing.assert_array_equal(found.rows, order)


def test_pairs_within_a_limit_leave_out_those_of_one_group():
    rng = np.random.default_rng(0)
    X, groups = rng.integers(-2, 3, (80, 4)).astype(np.float32), rng.integers(0, 5, 80)
    search = RowSearch(Vectors(X, None, groups), metric="euclidean", device=CPU, memory_bytes=8000)
    pairs = list(search.within(Vectors(X, None, groups), np.full(80, 2.0)))
    found = {(int(q), int(r)) for each in pairs for q, r in zip(each.queries, each.rows, strict=True)}
    apart = np.linalg.norm(X[:, None] - X, axis=2)
    expected = (apart <= 2) & (groups[:, None] != groups)
    assert found == set(map(tuple, np.argwhere(expected).tolist()))
    assert sum(len(each.rows) for each in pairs) == len(found)


def test_groups_that_become_equal_during_the_search_are_left_out_from_then_on():
    """A thousand equal rows: each batch joins what it holds, so that few of the million pairs are computed."""
    X, labels = np.ones((1000, 16), np.float32), np.arange(1000)
    search = RowSearch(Vectors(X, None, labels), metric="cosine", device=CPU, memory_bytes=2**16)
    computed = 0
    for pairs in search.within(Vectors(X, None, labels), np.full(1000, 0.5)):
        computed += len(pairs.rows)
        labels[pairs.rows] = 0
        labels[pairs.queries] = 0
    assert (labels == 0).all()
    assert computed < 10_000


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_components_are_those_of_networkx_like_search(batch):
    rng = np.random.default_rng(0)
    edges = rng.integers(0, 300, (220, 2))
    components = Components(300)
    for start in range(0, len(edges), batch):
        components.join(*edges[start : start + batch].T)
    expected = np.arange(300)
    for _ in range(300):  # the smallest label spreads along the edges
        for a, b in edges:
            expected[a] = expected[b] = min(expected[a], expected[b])
    np.testing.assert_array_equal(components.labels, expected)


def test_equal_keys_are_joined():
    components = Components(6)
    components.join_equal(np.array([b"x", b"y", b"x", b"z", b"y"]), np.array([5, 4, 3, 2, 1]))
    np.testing.assert_array_equal(components.labels, [0, 1, 2, 3, 1, 3])
