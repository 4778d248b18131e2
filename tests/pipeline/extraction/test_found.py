"""Summaries of the images found and the entries skipped in extract, its dry run, finetune, predict and caches."""

import json

import pytest

from frostline import OptionError
from frostline.features.cache import FeatureCache, merge_parts
from frostline.features.sources import open_source
from frostline.pipeline import evaluate, extract, finetune, plan_extraction
from frostline.pipeline.options.learning.recipe import Recipe
from frostline.pipeline.runs.run import load_run
from frostline.pipeline.studies.html_report.commands import repeating_commands
from tests.helpers.images import write_folder
from tests.helpers.network import BACKBONE, BACKBONE_OPTIONS
from tests.helpers.runner import run
from tests.helpers.tables import write_manifest


@pytest.fixture
def photos(tmp_path):
    names = [f"seg_{split}/{name}/{n}.png" for split in ("train", "test") for name in "ab" for n in range(3)]
    root = write_folder(tmp_path / "photos", names)
    (root / "seg_train" / "a" / "raw.CR2").write_text("")
    (root / "seg_train" / "c").mkdir()
    return root


def test_extract_ends_with_a_block_on_what_was_found_and_warns_first(photos, tmp_path):
    done = run("extract", photos, *BACKBONE_OPTIONS, "--cache", tmp_path / "c.h5")
    assert [line.strip() for line in done.stdout.splitlines()[-4:]] == [
        f"{photos}: 12 images, 2 classes (6 images each)",
        "splits: 6 train, 6 test (seg_test is test, seg_train is train)",
        "skipped: 1 .cr2",
        "folders without an image: 'seg_train/c'",
    ]
    assert "no image was found in 'seg_train/c'" in done.stderr
    assert "develop these raw photos" in done.stderr


def test_the_json_of_extract_has_it_as_fields(photos, tmp_path):
    done = run("extract", photos, *BACKBONE_OPTIONS, "--cache", tmp_path / "c.h5", "--json", "--quiet")
    found = json.loads(done.stdout)["found"]
    assert found["classes"] == {"a": 6, "b": 6}
    assert found["skipped"]["files"] == {".cr2": 1}
    assert found["split_folders"] == {"seg_test": "test", "seg_train": "train"}


def test_a_dry_run_lists_what_would_be_read_and_writes_nothing(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("frostline.features.sources.files.read_image_file", None)
    before = sorted(tmp_path.rglob("*"))
    done = run("extract", photos, "--dry-run", "--backbone", "timm:resnet152")
    assert "12 images, 2 classes" in done.stdout
    assert "Nothing was computed. The cache" in done.stdout
    assert "photos.timm-resnet152.h5 does not exist yet" in done.stdout
    assert [line.split() for line in done.stdout.splitlines() if line.startswith(("class", "a ", "b "))] == [
        ["class", "train", "test"],
        ["a", "3", "3"],
        ["b", "3", "3"],
    ]
    assert sorted(tmp_path.rglob("*")) == before
    plan = plan_extraction(photos, cache="c.h5")
    assert plan.counts == {"a": {"train": 3, "test": 3}, "b": {"train": 3, "test": 3}}
    assert not plan.exists


def test_a_cache_keeps_what_was_passed_over(photos, tmp_path):
    extract(photos, cache=tmp_path / "c.h5", **BACKBONE)
    info = json.loads(run("cache", "info", tmp_path / "c.h5", "--json").stdout)
    assert info["notes"]["skipped"]["files"] == {".cr2": 1}
    assert "skipped" in run("cache", "info", tmp_path / "c.h5").stdout


def test_parts_and_their_merge_keep_it_as_well(tmp_path):
    names = [f"a/{n:03}.png" for n in range(260)]
    photos = write_folder(tmp_path / "photos", names)
    (photos / "a" / "notes.txt").write_text("")
    for part in ("1/2", "2/2"):
        run("extract", photos, *BACKBONE_OPTIONS, "--cache", tmp_path / "c.h5", "--part", part)
    merged = merge_parts(sorted(tmp_path.glob("c.h5.part*")), tmp_path / "c.h5")
    extract(photos, cache=tmp_path / "whole.h5", backbone="timm:test_resnet", weights="random")
    assert merged.notes == FeatureCache.open(tmp_path / "whole.h5").notes
    assert merged.notes.skipped.files == {".txt": 1}


def test_a_source_that_is_open_already_takes_no_options_of_reading(photos):
    with pytest.raises(OptionError, match="label_column: images were passed, not their path"):
        extract(open_source(photos), label_column="x", **BACKBONE)


@pytest.fixture(scope="module")
def tuned(digits, tmp_path_factory):
    """A network that was fine-tuned on a manifest whose columns have other names."""
    folder = tmp_path_factory.mktemp("tuned")
    rows = [
        (path, path.parent.name, ("train", "val", "test")[number % 3], f"n{number}")
        for number, path in enumerate(sorted(digits.glob("[01]/*"))[::3])
    ]
    path = write_manifest(folder / "set.csv", ("file", "digit", "part", "note"), *rows)
    reading = {"path_column": "file", "label_column": "digit", "split_column": "part"}
    recipe = Recipe(epochs=1, augment="none")
    return finetune(path, run=folder / "run", recipe=recipe, workers=0, cached=False, **reading, **BACKBONE)


def test_finetune_has_what_was_found(tuned):
    assert tuned.found.columns == {"path": "file", "label": "digit", "split": "part"}
    assert tuned.found.side_columns == ("note",)


def test_a_run_records_how_its_images_were_read_so_that_they_can_be_read_again(tuned):
    (cache,) = load_run(tuned.run).caches
    assert cache.reading == {"path_column": "file", "label_column": "digit", "split_column": "part"}
    assert evaluate(tuned.run).rows == tuned.found.splits["test"]
    assert (
        "--path-column file --label-column digit --split-column part"
        in repeating_commands(load_run(tuned.run))[0]
    )


def test_a_head_records_how_the_images_of_its_cache_were_read(photos, tmp_path):
    cache, path = tmp_path / "c.h5", tmp_path / "run"
    extract(photos, cache=cache, split_folders={"seg_train": "train", "seg_test": "val"}, **BACKBONE)
    run("train-head", cache, "--run", path, "--param", "l2=1")
    assert (
        "--split-folders seg_train=train --split-folders seg_test=val"
        in repeating_commands(load_run(path))[0]
    )


def test_predict_tells_what_it_passed_over_in_folders(eager_run, photos):
    done = run("predict", eager_run, photos)
    assert "12 images found; skipped: 1 .cr2" in done.stderr
    assert "develop these raw photos" in done.stderr
    assert ".cr2" not in done.stdout.lower()
