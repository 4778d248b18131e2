"""The clusters of a cache, their agreement with labels that may be read, and what is written of them."""

import csv
import json

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from frostline.classifiers.errors import HeadError
from frostline.errors import OptionError
from frostline.features.errors import SearchError
from frostline.pipeline import clusters
from frostline.pipeline.exploring import clusters as stage
from tests.helpers.runner import run
from tests.helpers.vectors import write_vectors


@pytest.fixture
def planted_parts():
    """Vectors of three parts, their parts, labels that know four rows wrongly, and splits."""
    rng = np.random.default_rng(0)
    parts = np.repeat(np.arange(3), [50, 30, 20])
    X = 6 * np.eye(3, 8)[parts] + rng.normal(size=(100, 8))
    labels = parts.copy()
    labels[[0, 1, 50, 80]] = 2, 1, 0, 1
    labels[[5, 60]] = -1
    split = np.tile([1, 1, 2, 3], 25)
    return X, parts, labels, split


@pytest.mark.parametrize("method", ["kmeans", "mini-batch", "agglomerative", "hdbscan"])
def test_planted_parts_are_found_and_scored_without_test_labels(planted_parts, method, tmp_path):
    X, parts, labels, split = planted_parts
    cache = write_vectors(tmp_path / "c.h5", X, labels=labels, split=split, failed=[3])
    found = clusters(cache, method=method, out=tmp_path / "out.csv")
    assert found.count == 3
    with found.table.open(newline="") as file:
        rows = {int(row["image"][:5]): row for row in csv.DictReader(file)}
    assert sorted(rows) == [row for row in range(100) if row != 3]
    cluster = np.array([int(rows[row]["cluster"]) if row in rows else -2 for row in range(100)])
    inside = cluster >= 0
    assert found.noise == (cluster == -1).sum()
    assert adjusted_rand_score(parts[inside], cluster[inside]) == 1
    scored = inside & (split != 3) & (labels >= 0)
    assert found.agreement.rows == scored.sum()
    assert found.agreement.nmi == pytest.approx(normalized_mutual_info_score(labels[scored], cluster[scored]))
    assert found.agreement.ari == pytest.approx(adjusted_rand_score(labels[scored], cluster[scored]))
    assert [each.number for each in found.clusters if each.number >= 0] == [0, 1, 2]
    first = found.clusters[0]
    known = labels[(cluster == 0) & (split != 3)]
    known = known[known >= 0]
    assert (first.label, first.labelled) == ("class 0", len(known))
    assert first.purity == pytest.approx((known == 0).mean())
    near = sorted(np.flatnonzero(cluster == 0), key=lambda row: float(rows[row]["distance"]))
    assert first.nearest == tuple(f"{row:05d}.jpg" for row in near[:5])
    for row, line in rows.items():  # labels of test rows are not shown either
        assert line["label"] == ("" if split[row] == 3 or labels[row] < 0 else f"class {labels[row]}")
        assert (line["probability"] == "") == (method != "hdbscan")
        assert (line["distance"] == "") == (cluster[row] == -1)


def test_labels_of_test_rows_change_nothing(planted_parts, tmp_path):
    X, _, labels, split = planted_parts
    found = []
    for number in range(2):
        labels[split == 3] = number
        made = clusters(write_vectors(tmp_path / f"{number}.h5", X, labels=labels, split=split), count=4)
        found.append((made.agreement, made.clusters))
    assert found[0] == found[1]


def test_the_count_is_that_of_the_classes_or_named_or_chosen(planted_parts, tmp_path):
    X = planted_parts[0]
    cache = write_vectors(tmp_path / "c.h5", X)
    with pytest.raises(OptionError, match="no labelled images whose classes could be counted"):
        clusters(cache)
    found = clusters(cache, count="auto", metric="euclidean")
    assert found.count == 3
    assert found.agreement is None
    assert found.clusters[0].purity is None
    assert max(found.silhouettes, key=found.silhouettes.get) == 3
    assert [each.size for each in clusters(cache, count=3).clusters] == [50, 30, 20]
    with pytest.raises(OptionError, match="got 'many', expected auto, or a whole number"):
        clusters(cache, count="many")
    with pytest.raises(OptionError, match="hdbscan finds the number"):
        clusters(cache, count=3, method="hdbscan")
    with pytest.raises(HeadError, match="got 100 vectors, expected at least 101"):
        clusters(cache, count=101)


def test_projected_features_are_clustered(planted_parts, tmp_path):
    X, parts, _, _ = planted_parts
    cache = write_vectors(tmp_path / "c.h5", X, dtype="bfloat16")
    found = clusters(cache, count=3, project="pca:3", out=tmp_path / "out.csv")
    with found.table.open(newline="") as file:
        cluster = [int(row["cluster"]) for row in csv.DictReader(file)]
    assert adjusted_rand_score(parts, cluster) > 0.9
    with pytest.raises(HeadError, match="expected pca:WIDTH or random:WIDTH"):
        clusters(cache, count=3, project="umap")


def test_what_the_memory_cannot_hold_is_refused(planted_parts, tmp_path, monkeypatch):
    cache = write_vectors(tmp_path / "c.h5", planted_parts[0])
    monkeypatch.setattr(stage, "half_of_memory", lambda: 10_000)
    with pytest.raises(HeadError, match=r"more than half of the machine's memory \(1e-05 GB\)"):
        clusters(cache, count=3, method="agglomerative", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_photos_are_drawn_with_a_strip_per_cluster(planted, tmp_path):
    found = clusters(planted, out=tmp_path / "out", top=3)
    assert found.count == 2
    page = found.page.read_text("utf-8")
    assert page.count("<section ") == 2
    assert page.count("<img ") == 6
    assert found.picture.exists()


def test_the_command(planted_parts, tmp_path):
    X, _, labels, split = planted_parts
    X[98] = 40  # noise
    write_vectors(tmp_path / "c.h5", X, labels=labels, split=split)
    shown = run("clusters", tmp_path / "c.h5")
    assert "agreement with 73 labels of train and val: NMI 0." in shown.stdout
    assert "least pure: " in shown.stdout
    noisy = run("clusters", tmp_path / "c.h5", "--method", "hdbscan")
    assert " images of noise (cluster -1)" in noisy.stdout
    assert "\n     -1 " in noisy.stdout
    assert " of 73 labels of train and val, without noise: NMI" in noisy.stdout
    document = json.loads(run("clusters", tmp_path / "c.h5", "--count", "auto", "--json").stdout)
    assert document["silhouettes"]["3"] > 0
    assert "clusters  silhouette" in run("clusters", tmp_path / "c.h5", "--count", "auto").stdout
    lines = run("clusters", tmp_path / "c.h5", "--count", 4, "--format", "csv").stdout.splitlines()
    assert len(lines) == 5
    assert (
        "expected auto, or a whole number"
        in run("clusters", tmp_path / "c.h5", "--count", "0", code=2).stderr
    )
    empty = write_vectors(tmp_path / "d.h5", np.eye(3), failed=[0, 1, 2])
    with pytest.raises(SearchError, match="none of its 3 images has features"):
        clusters(empty, count=2)


@pytest.mark.parametrize("method", ["kmeans", "mini-batch"])
def test_fewer_different_vectors_than_clusters_are_told(tmp_path, method):
    X = np.repeat(np.eye(3), 5, axis=0)
    result = run(
        *("clusters", write_vectors(tmp_path / "c.h5", X).path, "--count", 5, "--method", method, "--quiet")
    )
    assert "3 clusters of 15 images" in result.stdout
    assert result.stderr.startswith("Warning: Only 3 of the 5 clusters have images, because")
    assert "ConvergenceWarning" not in result.stderr
