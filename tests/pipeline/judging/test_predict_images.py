"""`predict` labels images that lie in no file as it labels files."""

import json
from pathlib import Path

import numpy as np
import pytest

from frostline import cli
from frostline.features.sources import open_source
from frostline.pipeline import extract, predict, train_head
from frostline.pipeline.judging.prediction import as_csv
from frostline.testing import encode, photo
from tests.helpers.runner import CliRunner
from tests.helpers.sources import DigestSource

EXACT = {"engine": "eager", "precision": "fp32", "device": "cpu"}


@pytest.fixture(scope="module")
def run(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    made = extract(digits, backbone="timm:test_resnet", weights="random", cache=folder / "c.h5", **EXACT)
    return train_head(made.cache, "ridge", run=folder / "ridge").run


@pytest.fixture
def files(digits):
    paths = sorted(digits.glob("*/*"))[::9]
    return {path.relative_to(digits).as_posix(): path.read_bytes() for path in paths}


def answers(predictions):
    return [(found.label, found.probability, tuple(found.top), found.error) for found in predictions]


def test_images_in_memory_get_the_labels_of_equal_files(run, digits, files):
    source = DigestSource(files)
    of_memory = predict(run, source, **EXACT)
    of_files = predict(run, [digits / name for name in sorted(files)], **EXACT)
    assert len(of_memory) == len(files)
    assert answers(of_memory) == answers(of_files)


def test_an_image_without_a_file_is_named_by_its_id_and_has_no_path(run, files):
    found = predict(run, DigestSource(files), **EXACT)
    assert [each.image for each in found] == sorted(files)
    assert {each.path for each in found} == {None}


def test_files_keep_the_paths_that_the_user_named(run, digits, files, monkeypatch):
    monkeypatch.chdir(digits)
    named = [Path(name) for name in files]
    found = predict(run, named, **EXACT)
    assert [each.path for each in found] == named
    assert [each.image for each in found] == list(map(str, named))


def test_a_single_folder_is_searched_like_a_list_of_one(run, digits):
    assert predict(run, digits, **EXACT) == predict(run, [digits], **EXACT)
    assert predict(run, str(digits), **EXACT) == predict(run, [digits], **EXACT)


def test_a_source_of_files_gives_ids_and_paths(run, digits):
    source = open_source(digits, limit=4)
    found = predict(run, source, **EXACT)
    assert [each.image for each in found] == [id_.decode() for id_ in source.table.ids]
    assert [each.path for each in found] == [digits / each.image for each in found]
    assert answers(found) == answers(predict(run, [each.path for each in found], **EXACT))


def test_an_unreadable_image_in_memory_has_an_error_and_shifts_nothing(run, files):
    names = sorted(files)
    whole = predict(run, DigestSource(files), **EXACT)
    broken = DigestSource({**files, names[1]: b"no image"})
    del broken.files[names[2]]
    found = predict(run, broken, **EXACT)
    assert [each.label for each in found[1:3]] == [None, None]
    assert "not an image" in found[1].error
    assert "no longer there" in found[2].error
    for ours, theirs in zip([found[0], *found[3:]], [whole[0], *whole[3:]], strict=True):
        assert (ours.image, ours.label, ours.error) == (theirs.image, theirs.label, None)
        assert ours.probability == pytest.approx(theirs.probability, abs=1e-5)


def test_no_images_give_no_predictions(run):
    source = DigestSource({"a/1.png": encode(photo(9, 9))})
    source.table = source.table.take(np.arange(0))
    assert predict(run, source, **EXACT) == []
    assert predict(run, [], **EXACT) == []


def test_csv_names_files_by_path_and_other_images_by_id(run, digits, files):
    def first_column(predictions):
        columns, rows = as_csv(predictions)
        return [line[0] for line in (columns, *rows)]

    names = sorted(files)
    assert first_column(predict(run, DigestSource(files), **EXACT)) == ["image", *names]
    paths = [digits / name for name in names]
    assert first_column(predict(run, paths, **EXACT)) == ["path", *map(str, paths)]


def test_json_of_the_command_keeps_the_path(run, digits, files):
    path = str(digits / next(iter(files)))
    done = CliRunner().invoke(
        cli.main, ["predict", str(run), path, "--format", "json"], catch_exceptions=False
    )
    (found,) = json.loads(done.stdout)
    assert found["path"] == found["image"] == path
