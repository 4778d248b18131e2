"""Planted outliers of every kind are found, and the numbers are those of an independent computation."""

import csv
import json

import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy.ndimage import laplace

from frostline.features.errors import SearchError
from frostline.pipeline import outliers
from frostline.pipeline.drawing.thumbnails import opened_pictures
from frostline.pipeline.exploring.qualities import _sharpness, measure
from frostline.pipeline.progress import SILENT
from tests.helpers.runner import run
from tests.helpers.vectors import write_vectors


def named(found, kind):
    return [each.image for each in found.found if each.kind == kind]


def test_odd_pictures_are_found(planted, tmp_path):
    found = outliers(planted, out=tmp_path / "out")
    assert found.measured == planted.rows
    assert named(found, "dark") == ["china/black.png"]
    assert named(found, "blurred") == ["china/black.png", "china/blurred.png"]
    assert named(found, "shape") == ["china/wide.png"]
    # the copies of 96 x 96 are the only others of their size
    assert named(found, "size")[:2] == ["china/large.png", "china/wide.png"]
    assert set(named(found, "size")[2:]) == {"china/02_resized.png", "flower/02_resized.png"}
    with found.table.open(newline="") as file:
        assert [(row["kind"], row["image"]) for row in csv.DictReader(file)] == [
            (each.kind, each.image) for each in found.found
        ]
    assert found.picture.exists()
    assert "Of unusual shape: 1" in found.page.read_text("utf-8")


def test_the_most_foreign_image_is_the_planted_one(planted):
    found = outliers(planted, top=1, images=False)
    assert named(found, "class") == ["china/wrong.png"]
    assert found.found[1].remark == "near flower"
    assert found.found[1].value > 0.5
    assert named(found, "far") == ["china/black.png"]
    assert list(found.counts) == ["far", "class"]
    assert found.measured == 0


def test_planted_vectors_are_found_with_precision_and_recall_of_one(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 60)
    X = 0.3 * rng.normal(size=(180, 16)) + 3 * np.eye(16)[labels]
    far, foreign, failed = [5, 77], [10, 100, 170], [20]
    X[far] = 0.1 * rng.normal(size=(2, 16)) + 3 * np.eye(16)[[8, 9]] + np.eye(16)[labels[far]]
    X[foreign] = 0.3 * rng.normal(size=(3, 16)) + 3 * np.eye(16)[(labels[foreign] + 1) % 3]
    cache = write_vectors(tmp_path / "c.h5", X, labels=labels, failed=failed)
    found = outliers(cache, images=False)
    assert set(named(found, "far")) == {f"{row:05d}.jpg" for row in far}
    assert set(named(found, "class")) == {f"{row:05d}.jpg" for row in foreign}
    assert {each.image: each.remark for each in found.found if each.kind == "class"} == {
        f"{row:05d}.jpg": f"near class {(labels[row] + 1) % 3}" for row in foreign
    }


def test_qualities_are_those_of_scipy(planted, photos):
    with opened_pictures(planted) as pictures:
        found = measure(pictures, np.arange(planted.rows), workers=2, report=SILENT)
    for row, name in enumerate(planted.ids.tolist()):
        with Image.open(photos / name) as image:
            assert (found.width[row], found.height[row]) == image.size
            grey = np.asarray(image.convert("RGB").convert("L"), float)
        if max(grey.shape) <= 512:
            assert found.sharpness[row] == pytest.approx(laplace(grey)[1:-1, 1:-1].var(), rel=1e-5)
            assert found.brightness[row] == pytest.approx(np.percentile(grey, 99) / 255, rel=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (2, 2)])
def test_tiny_images_have_a_sharpness(size):
    assert np.isfinite(_sharpness(np.zeros(size, np.float32)))
    photo = Image.effect_noise((64, 64), 60)
    sharp, soft = (
        _sharpness(np.asarray(each, np.float32))
        for each in (photo, photo.filter(ImageFilter.GaussianBlur(3)))
    )
    assert soft < sharp / 100


def test_images_that_cannot_be_opened_are_told_and_skipped(tmp_path):
    write_vectors(tmp_path / "c.h5", np.random.default_rng(0).normal(size=(30, 4)))
    result = run("outliers", tmp_path / "c.h5", "--json")
    assert "Pixels are not measured." in result.stderr
    assert list(json.loads(result.stdout)["counts"]) == ["far"]


def test_a_cache_of_two_images_is_refused(tmp_path):
    with pytest.raises(SearchError, match="got 2 readable images, expected at least 3"):
        outliers(write_vectors(tmp_path / "c.h5", np.eye(3), failed=[0]))
