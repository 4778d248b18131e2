"""Groups are the connected components of similar pairs, however many pairs there are."""

import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components

from frostline.classifiers.errors import SplitError
from frostline.classifiers.inspection import groups
from frostline.classifiers.inspection.groups import duplicate_groups, similarities


def centred_cosines(X, centre):
    X = X - centre
    X = X / np.linalg.norm(X, axis=1, keepdims=True)
    return X @ X.T


def contents(numbers):
    return np.stack([np.asarray(numbers)] * 2, axis=1).astype("<i8").view(np.uint8)


@pytest.mark.parametrize("memory_bytes", [2**14, 2**28])
def test_groups_are_the_components_of_all_pairs(monkeypatch, memory_bytes):
    monkeypatch.setattr(groups, "_STEP", 64)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(70, 12))[rng.integers(0, 70, 400)] + 0.3 * rng.normal(size=(400, 12))
    rows = np.sort(rng.permutation(400)[:350])
    content = np.where(rng.random(400) < 0.1, 5, 100 + np.arange(400))
    X[content == 5] = X[content == 5][0]  # equal bytes have equal features
    centre = X[rows].mean(axis=0)
    found = duplicate_groups(
        X, rows, contents(content), threshold=0.9, centre=centre, memory_bytes=memory_bytes
    )
    edges = centred_cosines(X[rows], centre) >= 0.9
    edges |= content[rows][:, None] == content[rows]
    count, which = connected_components(edges, directed=False)
    expected = rows[[np.flatnonzero(which == label)[0] for label in which]]
    np.testing.assert_array_equal(found, expected)
    assert 20 < count < 300


def test_unknown_contents_are_not_equal_ones():
    X = np.eye(4)
    found = duplicate_groups(X, np.arange(4), np.zeros((4, 16), np.uint8), threshold=0.9, centre=np.zeros(4))
    np.testing.assert_array_equal(found, np.arange(4))


def test_few_pairs_are_computed_where_all_images_are_alike(monkeypatch):
    """Memory and time do not follow the number of similar pairs, here two million."""
    computed = []
    join = groups.Components.join
    monkeypatch.setattr(
        groups.Components, "join", lambda self, a, b: (computed.append(len(a)), join(self, a, b))
    )
    monkeypatch.setattr(groups, "_STEP", 128)
    rng = np.random.default_rng(0)
    X = (rng.normal(size=32) + 1e-3 * rng.normal(size=(2000, 32))).astype(np.float32)
    found = duplicate_groups(
        X, np.arange(2000), contents(np.arange(2000)), threshold=0.9, centre=np.zeros(32), memory_bytes=2**20
    )
    assert (found == 0).all()
    assert sum(computed) < 20_000


def test_similarities_are_centred_cosines():
    X = np.random.default_rng(0).normal(size=(50, 6))
    a, b = np.arange(50), np.roll(np.arange(50), 3)
    expected = centred_cosines(X, X[0] / 2)[a, b]
    np.testing.assert_allclose(similarities(X, a, b, X[0] / 2), expected, rtol=1e-12)
    assert similarities(np.zeros((2, 3)), np.array([0]), np.array([1]), np.zeros(3)) == 0


def test_threshold_out_of_range_is_refused():
    with pytest.raises(SplitError, match=r"threshold: got 1\.5"):
        duplicate_groups(np.eye(3), np.arange(3), contents(range(3)), threshold=1.5, centre=np.zeros(3))
