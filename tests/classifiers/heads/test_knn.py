"""The k nearest neighbours vote as their papers say, and options out of range are refused."""

import numpy as np
import pytest
from sklearn.base import clone

from frostline.classifiers.errors import HeadError
from frostline.classifiers.heads.knn import KNNHead


def vote(weights, metric="cosine", temperature=0.07):
    angles = np.array([0.0, 0.1, 0.2, 0.3, 2.0])
    X = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    head = KNNHead(3, weights=weights, metric=metric, temperature=temperature, device="cpu")
    return head.fit(X, [0, 1, 1, 0, 0]).predict_proba([[np.cos(0.06), np.sin(0.06)], X[0]])


def test_votes():
    np.testing.assert_allclose(vote("uniform"), [[1 / 3, 2 / 3]] * 2)
    near, middle, far = 1 / (1 - np.cos([0.04, 0.06, 0.14]))
    np.testing.assert_allclose(vote("distance")[0], np.array([middle, near + far]) / (near + middle + far))
    np.testing.assert_allclose(vote("distance")[1], [1, 0])
    near, middle, far = np.exp(np.cos([0.04, 0.06, 0.14]) / 0.01)  # Wu et al. 2018, section 3.4
    expected = np.array([middle, near + far]) / (near + middle + far)
    np.testing.assert_allclose(vote("softmax", temperature=0.01)[0], expected)
    np.testing.assert_allclose(vote("softmax", "euclidean", 0.01)[0], expected)
    assert np.isfinite(vote("softmax", temperature=1e-300)).all()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"metric": "manhattan"}, "metric: got 'manhattan', expected one of cosine, euclidean"),
        ({"weights": "rank"}, "weights: got 'rank'"),
        ({"n_neighbors": 0}, "n_neighbors: got 0"),
        ({"n_neighbors": 2.5}, "n_neighbors: got 2.5"),
        ({"n_neighbors": 9}, "got 9 and n_samples = 8 training rows"),
        ({"temperature": 0}, "temperature: got 0"),
        ({"memory_bytes": 0}, "memory_bytes: got 0"),
        ({"device": "abacus"}, "device: got 'abacus'"),
    ],
)
def test_a_parameter_out_of_range_is_named(params, message):
    with pytest.raises(HeadError, match=message):
        clone(KNNHead(3)).set_params(**params).fit(np.eye(8), range(8))


def test_more_neighbours_than_rows_are_refused():
    head = KNNHead(3, device="cpu").fit(np.eye(4), range(4))
    with pytest.raises(HeadError, match="got 4, expected 1 to 3"):
        head.kneighbors(n_neighbors=4)
