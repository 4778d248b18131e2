"""New images are embedded as the cache's own, and the command shows what the function returns."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

import frostline
from frostline.errors import OptionError
from frostline.features.errors import SearchError
from frostline.pipeline import RunError, search
from tests.helpers.runner import run
from tests.helpers.vectors import write_vectors


def test_a_new_image_finds_its_equal_and_its_copies_first(planted, photos, tmp_path):
    found = search(planted, [photos / "china/02.png", photos / "flower/03.png"], k=3, out=tmp_path / "out")
    first, second = found.queries
    assert [each.image for each in first.neighbours[:2]] == ["china/02.png", "china/02_resized.png"]
    assert [each.image for each in second.neighbours[:2]] == ["flower/03.png", "flower/03_cropped.png"]
    assert first.neighbours[0].distance == pytest.approx(0, abs=1e-6)
    with (tmp_path / "out/search.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [each.image for one in found.queries for each in one.neighbours]
    with Image.open(found.picture) as sheet:
        assert sheet.width > 1000
    page = found.page.read_text("utf-8")
    assert page.count("<img ") == 8
    assert page.count("<section ") == 2
    assert "http" not in page.replace("http-equiv", "")


def test_a_row_of_the_cache_is_not_its_own_neighbour(planted):
    (found,) = search(planted, row="china/02.png", k=2).queries
    assert (found.query, found.label) == ("china/02.png", "china")
    assert found.neighbours[0].image == "china/02_resized.png"
    (found,) = search(planted, row="china/02.png", k=2, include_self=True).queries
    assert found.neighbours[0].image == "china/02.png"
    (found,) = search(planted, row="china/02.png", classes="flower", k=5).queries
    assert {each.label for each in found.neighbours} == {"flower"}


def test_vectors_give_the_numbers_of_the_cache(planted):
    X = np.asarray(planted.features(), np.float64)
    found = search(planted, vectors=X[:2], k=4, metric="euclidean")
    expected = np.sort(np.linalg.norm(X[:2, None] - X, axis=2), axis=1)[:, :4]
    distances = [[each.distance for each in one.neighbours] for one in found.queries]
    np.testing.assert_allclose(distances, expected, atol=1e-6)
    assert [one.query for one in found.queries] == ["vector 0", "vector 1"]
    assert frostline.search is search


def test_filters_by_declared_split(tmp_path):
    X = np.random.default_rng(0).normal(size=(30, 4))
    cache = write_vectors(tmp_path / "c.h5", X, split=np.arange(30) % 3, labels=np.arange(30) % 2)
    found = search(cache, row="00000.jpg", in_split="val", classes=["class 1"], k=50)
    assert found.searched == 5
    assert {(each.split, each.label) for each in found.queries[0].neighbours} == {("val", "class 1")}
    with pytest.raises(SearchError, match=r"no readable image with --in-split test; .*no split, train, val"):
        search(cache, row="00000.jpg", in_split="test")


def test_a_cache_without_a_backbone_takes_rows_and_vectors_only(tmp_path, photos):
    cache = write_vectors(tmp_path / "c.h5", np.eye(6))
    assert search(cache, row="00000.jpg", k=2).queries[0].neighbours[0].image == "00001.jpg"
    with pytest.raises(RunError, match=r"new images can't be embedded.*--row ID"):
        search(cache, photos / "china/02.png")


def test_what_to_search_for_is_said_once(planted, photos):
    for options in ({}, {"row": "china/02.png", "vectors": np.zeros((1, 3))}):
        with pytest.raises(OptionError, match="only one of it"):
            search(planted, **options)
    with pytest.raises(OptionError, match=r"no class 'chna' \(did you mean 'china'"):
        search(planted, row="china/02.png", classes=["chna"])
    with pytest.raises(OptionError, match="expected a folder, or a file ending in"):
        search(planted, row="china/02.png", out=photos / "x.pdf")


def test_the_command_tells_of_unreadable_images_and_goes_on(planted, photos, tmp_path):
    (tmp_path / "bad.jpg").write_text("no image")
    result = run(
        "search", planted.path, tmp_path / "bad.jpg", photos / "china/02.png", "-k", 2, "--json", code=1
    )
    bad, good = json.loads(result.stdout)["queries"]
    assert "not an image" in bad["error"]
    assert good["neighbours"][0]["image"] == "china/02.png"
    assert "1 of 2 images could not be read" in result.stderr
    shown = run("search", planted.path, "--row", "china/02.png", "-k", 1)
    assert "china/02_resized.png" in shown.stdout
    lines = run("search", planted.path, "--row", "china/02.png", "-k", 100, "--format", "csv")
    assert len(lines.stdout.splitlines()) == planted.rows
    assert "Only 45 images can be found, fewer than the 100 asked for." in lines.stderr


def test_several_layers_and_unknown_ids_are_errors_of_the_command(tmp_path):
    write_vectors(tmp_path / "c.h5", {"a": np.eye(5), "b": np.eye(5)})
    assert "--layer" in run("search", tmp_path / "c.h5", "--row", "00000.jpg", code=1).stderr
    wrong = run("search", tmp_path / "c.h5", "--row", "00003.png", "--layer", "a", code=1)
    assert "did you mean '00003.jpg'" in wrong.stderr
    assert "Error: Invalid value" not in wrong.stderr


def test_the_only_row_is_not_found_for_itself_unless_asked(tmp_path):
    cache = write_vectors(tmp_path / "c.h5", np.eye(1, 3))
    with pytest.raises(SearchError, match="is the only one to search; to find it too, pass --include-self"):
        search(cache, row=["00000.jpg"])
    (found,) = search(cache, row=["00000.jpg"], include_self=True, k=1).queries
    assert [each.image for each in found.neighbours] == ["00000.jpg"]
