"""Scores by nearest neighbours equal those of scikit-learn, class by class."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from frostline.classifiers.errors import HeadError
from frostline.classifiers.inspection import outliers
from frostline.classifiers.inspection.outliers import modified_z, neighbour_scores


def distances(rows, queries, k, *, own):
    """Distances of the k nearest, by scikit-learn; `own` says that the queries are among the rows."""
    found, _ = NearestNeighbors(algorithm="brute").fit(rows).kneighbors(None if own else queries, k)
    return found


def test_scores_are_those_of_scikit_learn(monkeypatch):
    monkeypatch.setattr(outliers, "_STEP", 16)
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 4, 150)
    labels[labels == 3] = 2
    labels[7] = 3  # the only one of its class
    X = rng.normal(size=(200, 6)) + 3 * np.resize(labels, 200)[:, None]
    rows = np.arange(150) + 20
    steps = []
    found = neighbour_scores(X, rows, labels, 5, metric="euclidean", advance=steps.append)
    Y = X[rows]
    np.testing.assert_allclose(found.distance, distances(Y, Y, 5, own=True)[:, -1], rtol=1e-12)
    for label in range(3):
        inside, outside = Y[labels == label], Y[(labels != label) & (labels >= 0)]
        own = distances(inside, inside, 5, own=True)[:, -1]
        other = distances(outside, inside, 5, own=False)[:, -1]
        np.testing.assert_allclose(found.foreignness[labels == label], own / (own + other), rtol=1e-12)
    assert np.isnan(found.foreignness[labels < 0]).all()
    assert np.isnan(found.foreignness[7])
    assert (found.nearest_class[(labels >= 0) & (labels != 3)] >= 0).all()
    assert (found.nearest_class != labels)[labels >= 0].all()
    assert sum(steps) == 150


def test_small_classes_use_fewer_neighbours():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [3, 30])
    X = rng.normal(size=(33, 4)) + 5 * labels[:, None]
    found = neighbour_scores(X, np.arange(33), labels, 10, metric="euclidean")
    own = distances(X[:3], X[:3], 2, own=True)[:, -1]
    other = distances(X[3:], X[:3], 2, own=False)[:, -1]
    np.testing.assert_allclose(found.foreignness[:3], own / (own + other), rtol=1e-12)


def test_one_class_and_no_labels_have_distances_only():
    X = np.random.default_rng(0).normal(size=(20, 3))
    expected = distances(X, X, 4, own=True)[:, -1]
    for label in (-1, 0):
        found = neighbour_scores(X, np.arange(20), np.full(20, label), 4, metric="euclidean")
        np.testing.assert_allclose(found.distance, expected, rtol=1e-12)
        assert np.isnan(found.foreignness).all()


def test_too_many_neighbours_are_refused():
    with pytest.raises(HeadError, match="k: got 20, expected 1 to 19"):
        neighbour_scores(np.eye(20), np.arange(20), np.zeros(20, int), 20)


def test_modified_z_scores():
    values = np.array([1.0, 2, 3, 4, 100, np.nan])
    np.testing.assert_allclose(modified_z(values)[:5], 0.6745 * (values[:5] - 3) / 1)
    assert np.isnan(modified_z(values)[5])
    same = np.array([5.0] * 9 + [6])  # the median deviation is 0
    np.testing.assert_allclose(modified_z(same)[-1], 1 / (1.2533 * 0.1))
    np.testing.assert_array_equal(modified_z(np.full(4, 2.0)), np.zeros(4))
