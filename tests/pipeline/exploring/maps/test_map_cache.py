"""Coordinates are those of the features, colours are those of the cache and the run, and the page holds them all."""

import csv
import io
import json
import sys

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness
from sklearn.preprocessing import StandardScaler

from frostline.errors import OptionError
from frostline.features.errors import SearchError
from frostline.pipeline import evaluate, map_cache
from frostline.pipeline.drawing.embedding import draw_map
from frostline.pipeline.errors import RunError
from frostline.pipeline.inputs.labelled_images import divide_rows
from frostline.pipeline.runs.predictions import Predictions
from frostline.splits import SPLITS
from tests.helpers.listener import Listener
from tests.helpers.runner import run as command
from tests.helpers.vectors import write_vectors
from tests.pipeline.exploring.maps.conftest import CLASSES, data_of


def coordinates(result):
    return np.array([(each.x, each.y) for each in result.points])


@pytest.fixture(scope="module")
def clusters(tmp_path_factory):
    """A cache of 90 vectors in three clusters, of which 10 have no label and 3 could not be read."""
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    X = rng.normal(size=(3, 20))[labels] * 5 + rng.normal(size=(90, 20))
    labels[:10] = -1
    return write_vectors(
        tmp_path_factory.mktemp("clusters") / "c.h5",
        {"embedding": X, "other": X[:, :4]},
        labels=labels,
        failed=(4, 5, 77),
    )


def test_principal_components_are_those_of_scikit_learn(clusters):
    result = map_cache(clusters, layer="embedding", out=None)
    X = StandardScaler().fit_transform(np.asarray(clusters.features("embedding"))[clusters.ok])
    reference = PCA(2).fit(X)
    expected, found = reference.transform(X), coordinates(result)
    for axis in range(2):
        assert abs(np.corrcoef(expected[:, axis], found[:, axis])[0, 1]) > 0.999999
        share = f"component {axis + 1} ({reference.explained_variance_ratio_[axis]:.0%} of the variance)"
        assert result.axes[axis] == share
    np.testing.assert_allclose(found.std(axis=0), expected.std(axis=0), rtol=1e-4)
    assert result.images == len(result.points) == 87
    assert [each.image for each in result.points] == clusters.ids[clusters.ok].tolist()
    assert (result.page, result.table, result.bytes) == (None, None, 0)


def test_neighbours_stay_neighbours_for_a_seed(clusters):
    first, again = (map_cache(clusters, layer="embedding", method="tsne", out=None, seed=5) for _ in range(2))
    assert (coordinates(first) == coordinates(again)).all()
    X = np.asarray(clusters.features("embedding"))[clusters.ok]
    assert trustworthiness(X, coordinates(first), n_neighbors=5) > 0.9


def test_odd_features_can_be_drawn():
    rng = np.random.default_rng(0)
    for X in (np.ones((5, 3)), rng.normal(size=(7, 1)), rng.normal(size=(3, 400))):
        for kind in ("pca", "tsne"):
            assert np.isfinite(draw_map(X.astype(np.float32), kind).points).all()


def test_points_have_their_classes_splits_and_predictions(hostile, tmp_path):
    cache, run, _ = hostile
    result = map_cache(cache, run=run, out=tmp_path / "m.html")
    splits = divide_rows(cache, (0.6, 0.2, 0.2))
    known = Predictions.read(run / "validation_predictions.csv")
    predicted = dict(
        zip(
            known.ids.tolist(),
            zip(known.predicted.tolist(), known.probability.tolist(), strict=True),
            strict=True,
        )
    )
    for row, each in enumerate(result.points):
        assert each.image == cache.ids[row]
        assert each.label == cache.classes[cache.labels[row]]
        assert each.split == SPLITS[splits[row]]
        assert (each.predicted, each.probability) == predicted.get(each.image, ("", None))
    assert (result.predicted, result.mistakes) == (len(known), int((~known.correct).sum()))
    assert result.mistakes
    data = data_of(result.page.read_text())
    judged, of_class, of_split = data["colourings"]
    assert [each["name"] for each in data["colourings"]] == ["prediction", "class", "split"]
    assert of_class["codes"] == cache.labels.tolist()
    assert of_split["codes"] == (splits.astype(int) - 1).tolist()
    assert [judged["codes"].count(code) for code in (-1, 0, 1)] == [
        61 - len(known),
        len(known) - result.mistakes,
        result.mistakes,
    ]
    for i, each in enumerate(result.points):
        code = data["predictions"]["codes"][i]
        assert (code < 0) == (each.predicted == "")


def test_test_images_are_coloured_only_by_an_evaluation_that_was_written(hostile, tmp_path):
    import shutil

    cache, run, _ = hostile
    copied = shutil.copytree(run, tmp_path / "run")
    before = sorted(path.name for path in copied.iterdir())
    sealed = map_cache(cache, run=copied, out=None)
    assert not any(each.predicted for each in sealed.points if each.split == "test")
    assert sorted(path.name for path in copied.iterdir()) == before
    evaluate(copied)
    opened = map_cache(cache, run=copied, out=None)
    assert all(each.predicted for each in opened.points if each.split == "test")
    assert len((copied / "ledger.jsonl").read_text().splitlines()) == 1


def test_page_places_the_coordinates_and_thumbnails(hostile, tmp_path):
    cache, _, gone = hostile
    report = Listener()
    result = map_cache(cache, out=tmp_path / "m.html", report=report)
    data = data_of(result.page.read_text())
    points = coordinates(result)
    span = np.ptp(points, axis=0).max()
    placed = np.column_stack([data["x"], -np.array(data["y"])])
    np.testing.assert_allclose(placed - placed.mean(axis=0), (points - points.mean(axis=0)) / span, atol=2e-5)
    assert np.ptp(placed, axis=0).max() == pytest.approx(1, abs=1e-4)
    lost = cache.ids.tolist().index(gone)
    assert [i for i, tile in enumerate(data["tiles"]) if not tile] == [lost]
    assert result.thumbnails == 60
    assert result.thumbnail_side == 160
    assert "1 of 61 images can't be read" in report.warnings[0]
    assert result.bytes == result.page.stat().st_size


def test_larger_caches_are_sampled_by_class_and_say_so(clusters, tmp_path):
    result = map_cache(clusters, layer="embedding", limit=20, out=tmp_path / "m.html")
    assert len(result.points) == 20
    counts = {label: sum(each.label == label for each in result.points) for label in ("", *clusters.classes)}
    assert all(count >= 1 for count in counts.values())
    assert "20 of 87 readable images are drawn, from each class in proportion (seed 0)." in result.sampled
    assert result.sampled in result.page.read_text()
    other = map_cache(clusters, layer="embedding", limit=20, out=None, seed=1)
    assert [each.image for each in other.points] != [each.image for each in result.points]


def test_some_or_no_points_have_thumbnails(hostile, tmp_path):
    cache, *_ = hostile
    some = map_cache(cache, thumbnails=9, out=tmp_path / "some.html")
    tiles = data_of(some.page.read_text())["tiles"]
    assert 8 <= sum(map(bool, tiles)) <= 9
    assert "9 of the images have a thumbnail" in some.page.read_text()
    none = map_cache(cache, thumbnails=0, out=tmp_path / "none.html")
    assert none.thumbnails == none.thumbnail_side == 0
    assert data_of(none.page.read_text())["tiles"] == []


def test_command_writes_page_and_table_and_prints_coordinates(hostile, tmp_path):
    cache, run, _ = hostile
    done = command(
        "map", cache.path, "--run", run, "--out", tmp_path / "map", "--thumbnails", "none", "--format", "csv"
    )
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert list(rows[0]) == ["image", "x", "y", "label", "split", "predicted", "probability"]
    with (tmp_path / "map" / "map.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        assert len(list(csv.DictReader(file))) == len(rows) == 61
    assert sorted(path.name for path in (tmp_path / "map").iterdir()) == ["map.csv", "map.html"]
    listed = json.loads(command("map", cache.path, "--out", tmp_path / "m.csv", "--json").stdout)
    assert [each["image"] for each in listed["points"]] == cache.ids.tolist()
    assert listed["points"][0]["x"] == pytest.approx(float(rows[0]["x"]), rel=1e-4)
    assert listed["page"] is None
    text = command("map", cache.path, "--out", tmp_path / "m.html").stdout
    assert "60 thumbnails of at most 160 pixels a side" in text


def test_what_cannot_be_drawn_is_refused(clusters, hostile, tmp_path, monkeypatch):
    _, run, _ = hostile
    with pytest.raises(RunError, match="holds several layers"):
        map_cache(clusters, out=None)
    with pytest.raises(RunError, match="draws one layer"):
        map_cache(clusters, layer="all", out=None)
    with pytest.raises(RunError, match=r"does not hold the images that .* was trained on"):
        map_cache(clusters, layer="other", run=run, out=None)
    with pytest.raises(OptionError, match=r"expected a folder, or a file ending in \.html or \.csv"):
        map_cache(clusters, layer="other", out=tmp_path / "m.png")
    with pytest.raises(OptionError, match="thumbnails: got 'few', expected a number or none"):
        map_cache(clusters, layer="other", thumbnails="few")
    two = write_vectors(tmp_path / "two.h5", np.eye(4), failed=(0, 1))
    with pytest.raises(SearchError, match="got 2 readable images, expected at least 3"):
        map_cache(two, out=tmp_path / "m.html")
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(RunError, match=r"--method umap needs umap-learn: pip install 'frostline\[umap\]'"):
        map_cache(clusters, layer="other", method="umap", out=tmp_path / "m.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["two.h5"]


def test_joined_caches_and_the_layer_of_the_run_are_drawn(hostile, clusters, tmp_path):
    import shutil

    cache, run, _ = hostile
    other = shutil.copy(cache.path, tmp_path / "other.h5")
    joined = map_cache(f"{cache.path}+{other}", out=tmp_path / "m.html", thumbnails=3)
    assert joined.layer == "1/embedding+2/embedding"
    assert len(joined.points) == 61
    assert map_cache(cache, run=run, out=None).layer == "embedding"
    assert map_cache(clusters, layer="embedding+other", out=None).layer == "embedding+other"
    assert set(CLASSES) == set(cache.classes)
