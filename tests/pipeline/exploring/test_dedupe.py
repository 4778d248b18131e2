"""Planted copies are found with the stated recall and precision, and a manifest leaves them out."""

import csv
import json

import numpy as np
import pytest

from frostline.errors import OptionError
from frostline.features.sources import open_source
from frostline.pipeline import RunError, dedupe
from tests.helpers.runner import run
from tests.helpers.vectors import write_vectors


def original(image):
    """The photo that an image is a copy of."""
    return "china/14" if image == "china/large.png" else image.partition(".")[0].partition("_")[0]


def pairs(found):
    """Pairs of images in one group, without an order."""
    groups = {}
    for each in found.images:
        groups.setdefault(each.group, []).append(each.image)
    return {frozenset((a, b)) for names in groups.values() for a in names for b in names if a < b}


def copies(planted):
    names = [str(name) for name in planted.ids]
    return {frozenset((a, b)) for a in names for b in names if a < b and original(a) == original(b)}


@pytest.mark.parametrize(
    ("threshold", "recall"), [(0.95, 8 / 9), (0.9, 8 / 9)]
)  # what is missed are JPEG copies of these small photos
def test_precision_and_recall_on_planted_copies(planted, threshold, recall):
    found, truth = pairs(dedupe(planted, threshold=threshold)), copies(planted)
    assert len(truth) == 9
    assert found <= truth  # precision 1
    assert len(found & truth) / len(truth) >= recall - 1e-9
    missed = {name for pair in truth - found for name in pair}
    assert all("_jpeg" in name or name.replace(".png", "_jpeg.jpg") in missed for name in missed)


def test_rules_of_keeping(planted):
    def kept(rule):
        found = dedupe(planted, keep=rule, threshold=0.95)
        assert found.keep == rule
        assert found.dropped == len(found.images) - found.groups
        return {original(each.image): each.image for each in found.images if each.kept}

    assert kept("largest")["china/02"] == "china/02_resized.png"
    assert kept("largest")["china/14"] == "china/large.png"
    assert kept("largest")["china/00"] == "china/00.png"  # equal sizes: the first
    assert kept("first")["china/14"] == "china/14.png"
    assert kept("sharpest")["china/14"] == "china/14.png"


def test_manifest_and_list_without_the_dropped_images(planted, photos, tmp_path):
    before = sorted(photos.rglob("*"))
    found = dedupe(planted, out=tmp_path / "out")
    dropped = {each.image for each in found.images if not each.kept}
    source = open_source(found.manifest)
    names = {str(path.relative_to(photos)) for path in map(source.path, range(len(source.table)))}
    assert names == {str(name) for name in planted.ids} - dropped
    assert len(dropped) == found.dropped >= 8
    assert source.table.classes == ("china", "flower")
    assert sorted(photos.rglob("*")) == before
    with found.listing.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:4] == ["group", "image", "kept", "similarity"]
    assert [row["image"] for row in rows] == [each.image for each in found.images]
    assert found.picture.exists()
    assert found.page.exists()


def test_similarity_is_that_to_the_kept_image_with_the_centre_of_check(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 8)) + 2
    X[7] = X[3] + 0.01
    X[9] = X[3] + 0.02
    split = np.repeat([1, 2, 3, 0], 10)
    cache = write_vectors(tmp_path / "c.h5", X, labels=np.arange(40) % 2, split=split)
    found = dedupe(cache, keep="first")
    Y = np.asarray(cache.features(), float) - np.asarray(cache.features(), float)[split == 1].mean(axis=0)
    assert [each.image for each in found.images] == ["00003.jpg", "00007.jpg", "00009.jpg"]
    for row, each in zip((3, 7, 9), found.images, strict=True):
        cosine = Y[3] @ Y[row] / np.linalg.norm(Y[3]) / np.linalg.norm(Y[row])
        assert each.similarity == pytest.approx(cosine, abs=1e-9)


def test_groups_across_splits_and_with_different_labels_are_told(tmp_path):
    X = np.random.default_rng(0).normal(size=(30, 8))
    split, content = np.repeat([1, 3], 15), np.arange(30)
    for a, b in ((0, 1), (2, 3), (4, 20)):
        X[b], content[b] = X[a], content[a]
    labels = np.zeros(30, int)
    labels[3] = 1
    write_vectors(tmp_path / "c.h5", X, labels=labels, split=split, content=content, failed=[1])
    result = run("dedupe", tmp_path / "c.h5")
    assert "1 groups with images in several splits: 2" in result.stdout
    assert "1 groups with different labels: 1" in result.stdout
    assert "The first image of each group is kept" in result.stderr
    document = json.loads(run("dedupe", tmp_path / "c.h5", "--keep", "first", "--json").stdout)
    assert [each["image"] for each in document["images"]] == [
        "00002.jpg",
        "00003.jpg",
        "00004.jpg",
        "00020.jpg",
    ]
    assert all(each["equal"] for each in document["images"])


def test_a_label_that_only_a_dropped_image_has_is_told(tmp_path):
    X = np.random.default_rng(0).normal(size=(12, 8))
    for a, b in ((0, 1), (2, 3), (4, 5)):
        X[b] = X[a]
    labels = [-1, 0, 0, -1, -1, -1, *range(6)]  # only the first pair keeps the image without the label
    result = run("dedupe", write_vectors(tmp_path / "c.h5", X, labels=labels).path, "--keep", "first")
    assert "Warning: 1 groups with a label that the kept image does not have: 1\n" in result.stdout
    assert "different labels" not in result.stdout


def test_unlabelled_images_are_compared_as_well(tmp_path):
    X = np.random.default_rng(0).normal(size=(30, 8))
    X[5] = X[4]
    found = dedupe(write_vectors(tmp_path / "c.h5", X), keep="first")
    assert [each.image for each in found.images] == ["00004.jpg", "00005.jpg"]


def test_what_cannot_be_done_is_refused_before_the_comparison(planted, photos, tmp_path):
    cache = write_vectors(tmp_path / "c.h5", np.zeros((4, 3)))
    with pytest.raises(RunError, match="not files of their own"):
        dedupe(cache, out=tmp_path / "m.csv")
    with pytest.raises(RunError, match="--keep sharpest needs the images"):
        dedupe(write_vectors(tmp_path / "d.h5", np.eye(4)[[0, 1, 2, 2]]), keep="sharpest")
    with pytest.raises(OptionError, match="threshold: got 2"):
        dedupe(planted, threshold=2)
    assert not (tmp_path / "m.csv").exists()
    manifest = tmp_path / "photos.csv"
    manifest.write_text(f"path,label\n{photos / 'china/02.png'},a\n{photos / 'china/03.png'},a\n")
    run(
        "extract",
        manifest,
        "--cache",
        tmp_path / "m.h5",
        "--backbone",
        "timm:test_resnet",
        "--weights",
        "random",
    )
    with pytest.raises(OptionError, match="is the manifest that"):
        dedupe(tmp_path / "m.h5", out=manifest)


def test_a_manifest_keeps_groups_and_side_columns(photos, tmp_path):
    lines = ["path,label,split,group,age,'=site"]
    lines += [
        f"{photos / f'china/{name}.png'},a,train,g{name},{age},'=x"
        for name, age in (("00", 5), ("00_equal", 6), ("05", ""))
    ]
    (tmp_path / "m.csv").write_text("\n".join(lines) + "\n")
    network = ("--backbone", "timm:test_resnet", "--weights", "random")
    run("extract", tmp_path / "m.csv", "--cache", tmp_path / "m.h5", *network)
    found = dedupe(tmp_path / "m.h5", threshold=1, out=tmp_path / "once.csv")
    source = open_source(found.manifest)
    before, after = open_source(tmp_path / "m.csv").table.take(np.array([0, 2])), source.table
    assert after.ids.tolist() == before.ids.tolist()
    assert after.groups.tolist() == before.groups.tolist()
    assert after.split.tolist() == before.split.tolist()
    assert [each.name for each in after.columns] == ["age", "=site"]
    for ours, theirs in zip(after.columns, before.columns, strict=True):
        assert ours.name == theirs.name
        np.testing.assert_array_equal(ours.cells, theirs.cells)
