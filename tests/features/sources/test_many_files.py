"""Manifests of many files, missing or not."""

import itertools
import os
from pathlib import PurePath

import pytest

from frostline.features.errors import SourceError
from frostline.features.sources import disk_names, file_stats, manifest, open_source
from frostline.features.sources.listing import UNREADABLE, file_stat
from tests.helpers.images import write_folder
from tests.helpers.tables import write_manifest

PARTS = ("a", ".", "..", "", "a.b", ".c", "d.")


def test_paths_are_written_as_before():
    sheet = manifest._Sheet("m.csv", ["path"], {"path": 0}, {}, [2], "line")
    for length in range(1, 5):
        for parts in itertools.product(PARTS, repeat=length):
            cell = "/".join(parts)
            if cell:
                assert manifest._id(cell, sheet, 0) == PurePath(cell).as_posix()


def test_many_stats_are_those_of_single_files(tmp_path):
    write_folder(tmp_path, ["a/1.png", "a/2.png"])
    paths = [str(tmp_path / f"a/{number % 3}.png") for number in range(3 * file_stats._CHUNK + 1)]
    found = file_stats.file_stats(paths)
    assert found == [file_stat(path) for path in paths]
    assert found[0] == UNREADABLE


def test_a_missing_file_costs_one_question_to_the_file_system(tmp_path, monkeypatch):
    write_folder(tmp_path, ["there.png"])
    names = [f"gone/{number}.png" for number in range(5_000)]
    write_manifest(tmp_path / "m.csv", ["path"], ["there.png"], *([name] for name in names))
    asked = []
    stat = os.stat
    monkeypatch.setattr(os, "stat", lambda path, **options: asked.append(path) or stat(path, **options))
    monkeypatch.setattr(disk_names.DiskNames, "find", lambda *_: pytest.fail("searches for a file"))
    assert len(open_source(tmp_path / "m.csv").table) == 5_001
    assert sum("gone" in str(path) for path in asked) == len(names)


def test_each_folder_of_missing_names_in_another_form_is_searched_for_once(tmp_path, monkeypatch):
    write_folder(tmp_path, ["there.png"])
    write_manifest(
        tmp_path / "m.csv", ["path"], ["there.png"], *([f"gé/b/{number}.png"] for number in range(500))
    )
    asked = []
    lexists = os.path.lexists
    monkeypatch.setattr(os.path, "lexists", lambda path: asked.append(path) or lexists(path))
    assert len(open_source(tmp_path / "m.csv").table) == 501
    assert len(asked) < 600


def test_an_endless_line_is_not_read(tmp_path):
    path = tmp_path / "m.csv"
    path.write_bytes(b"path,label\n")
    os.truncate(path, 20_000_000_000)
    with pytest.raises(SourceError, match=r"m.csv, line 2: is longer than 1,048,576 characters"):
        open_source(path)
