"""Kinds of image sources with one defect each."""

import dataclasses
from pathlib import Path

import pytest

from frostline.features.sources import SourceKind
from frostline.features.sources.folders.folder import open_folder
from frostline.testing import ImageSourceKindContract
from tests.helpers.images import write_folder

NAMES = ["a/1.png", "a/2.png", "a/3.png", "b/4.png", "b/5.png"]


def open_album(root):
    source = open_folder(root.removeprefix("album:"))
    source.root = root
    return source


ALBUM = SourceKind(
    "album:FOLDER",
    lambda data: data.startswith("album:"),
    open_album,
    lambda root, id_: Path(root.removeprefix("album:"), id_),
)


class Albums(ImageSourceKindContract):
    kind = "album"
    fails = frozenset()

    @pytest.fixture(autouse=True)
    def _declared(self, declare):
        declare("frostline.image_sources", album=f"{__name__}:{type(self).__name__}.KIND")

    @pytest.fixture
    def source(self, tmp_path):
        return open_album(f"album:{write_folder(tmp_path / 'photos', NAMES)}")

    @pytest.fixture
    def files(self, source):
        return {name: Path(source.folder, name).read_bytes() for name in NAMES}

    def write(self, source, row, data):
        source.path(row).write_bytes(data)

    def remove(self, source, row):
        source.path(row).unlink()


class TestWithoutDefect(Albums):
    KIND = ALBUM


class TestNoDescription(Albums):
    KIND = dataclasses.replace(ALBUM, expects=" ")
    fails = frozenset({"test_kind_is_registered_and_described"})


class TestRootOfAnotherForm(Albums):
    KIND = dataclasses.replace(ALBUM, accepts=lambda data: data.startswith("photos:"))
    fails = frozenset({"test_root_is_opened_by_this_kind"})


class TestTakesAll(Albums):
    KIND = dataclasses.replace(ALBUM, accepts=lambda _data: True)
    fails = frozenset({"test_other_input_is_left_to_other_kinds"})


class TestPathsOfTheRoot(Albums):
    KIND = dataclasses.replace(ALBUM, locate=Path)
    fails = frozenset({"test_paths_are_located_without_listing_the_images"})
