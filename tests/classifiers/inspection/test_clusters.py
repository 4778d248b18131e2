"""Clusters are those of scikit-learn, and the scores are those of its metrics."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.cluster import HDBSCAN, AgglomerativeClustering, KMeans
from sklearn.metrics import (
    adjusted_rand_score,
    normalized_mutual_info_score,
    silhouette_score,
)
from sklearn.preprocessing import normalize

from frostline.classifiers.errors import HeadError
from frostline.classifiers.inspection import clusters
from frostline.classifiers.inspection.clusters import (
    Prepared,
    agreement,
    contingency,
    counts_to_try,
    fit_clusters,
    memory_needed,
)


@pytest.fixture(scope="module")
def blobs():
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(4), [60, 40, 30, 20])
    X = 3 * rng.normal(size=(4, 8))[y] + rng.normal(size=(150, 8)) + 2
    return X.astype(np.float16), y


def same_parts(a, b):
    return adjusted_rand_score(a, b) == 1


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_vectors_are_prepared_in_blocks_as_a_whole(blobs, metric, monkeypatch):
    monkeypatch.setattr(clusters, "_BLOCK", 7)
    X, rows = blobs[0], np.arange(3, 140)
    plain = X[rows].astype(float)
    expected = normalize(plain - plain.mean(axis=0)) if metric == "cosine" else plain
    np.testing.assert_allclose(Prepared.of(X, rows, metric).whole(), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "model"),
    [
        ("kmeans", KMeans(5, n_init=4, random_state=3)),
        ("agglomerative", AgglomerativeClustering(5)),
        ("hdbscan", HDBSCAN(min_cluster_size=8, copy=True)),
    ],
)
def test_the_estimators_are_those_of_scikit_learn(blobs, method, model):
    data = Prepared.of(blobs[0], np.arange(150), "cosine")
    found = fit_clusters(data, method, None if method == "hdbscan" else 5, smallest=8, seed=3)
    X, expected = data.whole().astype(float), model.fit(data.whole()).labels_
    assert same_parts(found.cluster, expected)
    assert ((found.cluster == -1) == (expected == -1)).all()
    sizes = np.bincount(found.cluster[found.cluster >= 0])
    assert (np.diff(sizes) <= 0).all()
    assert len(sizes) == len(found.centres)
    for number, centre in enumerate(found.centres):
        inside = found.cluster == number
        np.testing.assert_allclose(centre, X[inside].mean(axis=0), atol=1e-9)
        np.testing.assert_allclose(
            found.distance[inside], np.linalg.norm(X[inside] - centre, axis=1), atol=1e-9
        )
    assert np.isnan(found.distance[found.cluster == -1]).all()
    if method == "hdbscan":
        assert (found.cluster == -1).any()
        np.testing.assert_array_equal(found.probability, model.probabilities_)
    else:
        assert found.probability is None


def test_mini_batches_find_the_planted_parts_without_the_whole_in_memory(monkeypatch):
    monkeypatch.setattr(clusters, "_BLOCK", 64)
    rng = np.random.default_rng(0)
    y = rng.integers(0, 5, 1000)
    X = (8 * np.eye(5, 12)[y] + rng.normal(size=(1000, 12))).astype(np.float32)
    data = Prepared.of(X, np.arange(1000), "euclidean")
    monkeypatch.setattr(Prepared, "whole", None)
    found = fit_clusters(data, "mini-batch", 5, seed=1)
    assert same_parts(found.cluster, y)
    again = fit_clusters(data, "mini-batch", 5, seed=1)
    assert (again.cluster == found.cluster).all()


def test_auto_takes_the_count_of_the_largest_silhouette(blobs):
    X, y = blobs
    data, done = Prepared.of(X, np.arange(150), "euclidean"), []
    found = fit_clusters(data, "agglomerative", "auto", advance=done.append)
    tried = counts_to_try(150)
    assert tried == [2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]
    assert sum(done) == len(tried)
    assert list(found.silhouettes) == tried
    for count, value in found.silhouettes.items():
        labels = AgglomerativeClustering(count).fit_predict(data.whole())
        assert value == pytest.approx(silhouette_score(data.whole(), labels), abs=1e-6)
    assert len(found.centres) == max(found.silhouettes, key=found.silhouettes.get) == 4
    assert adjusted_rand_score(found.cluster, y) > 0.9
    assert counts_to_try(4) == [2, 3]


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_those_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(-1, 5, 200), rng.integers(-1, 4, 200)
    b = np.where(rng.random(200) < 0.5, np.minimum(a, 3), b)
    table = contingency(a, b, (5, 4))
    both = (a >= 0) & (b >= 0)
    found = agreement(table)
    assert found.rows == both.sum()
    assert found.nmi == pytest.approx(normalized_mutual_info_score(b[both], a[both]))
    assert found.ari == pytest.approx(adjusted_rand_score(b[both], a[both]))
    purity = sum(np.bincount(b[both & (a == k)]).max() for k in range(5)) / both.sum()
    assert found.purity == pytest.approx(purity)


def test_scores_of_degenerate_parts():
    same = agreement(contingency(np.zeros(5, int), np.zeros(5, int), (1, 1)))
    assert (same.nmi, same.ari, same.purity) == (1, 1, 1)
    apart = agreement(contingency(np.arange(4), np.zeros(4, int), (4, 1)))
    assert (apart.nmi, apart.ari, apart.purity) == (0, 0, 1)
    alone = agreement(contingency(np.zeros(1, int), np.zeros(1, int), (1, 1)))
    assert (alone.nmi, alone.ari) == (1, 1)
    assert agreement(contingency(np.array([-1]), np.array([0]), (1, 1))) is None


def test_what_exceeds_the_memory_is_refused_with_the_number(blobs):
    data = Prepared.of(blobs[0], np.arange(150), "cosine")
    assert memory_needed("agglomerative", 100_000, 64) > 8e10
    assert memory_needed("mini-batch", 10**9, 64) < 1e7
    with pytest.raises(
        HeadError, match=r"agglomerative: needs about 0\.000193 GB for 150 vectors.*Up to about"
    ):
        fit_clusters(data, "agglomerative", 3, memory=100_000)
    with pytest.raises(HeadError, match="--project pca:4, or use --method mini-batch"):
        fit_clusters(data, "kmeans", 3, memory=1000)
    with pytest.raises(HeadError, match="got 150 vectors, expected at least 151"):
        fit_clusters(data, "kmeans", 151)


_MEASURE = """
import resource, sys
import numpy as np
from frostline.classifiers.inspection.clusters import Prepared, fit_clusters, memory_needed
def fit(rows):
    X = np.random.default_rng(0).normal(size=(rows, 8)).astype(np.float32)
    fit_clusters(Prepared.of(X, np.arange(rows), "euclidean"), sys.argv[1], None if sys.argv[1] == "hdbscan" else 3)
fit(50)
before, rows = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, int(sys.argv[2])
fit(rows)
used = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
print(used / memory_needed(sys.argv[1], rows, 8))
"""


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs the peak memory in KiB, as on Linux")
def test_agglomerative_uses_about_the_memory_that_is_told():
    """The distances are held by compiled code, so the memory of a process is measured."""
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, "agglomerative", "6000"], capture_output=True, text=True, check=True
    )
    assert 0.7 < float(done.stdout) < 1.3
