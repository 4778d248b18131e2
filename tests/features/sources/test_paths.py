"""Images by their paths, as predict takes them."""

import os

import pytest

from frostline.features.errors import SourceError
from frostline.features.sources import PathSource, open_paths
from frostline.features.table import NO_STAMP
from tests.helpers.images import write_folder, write_image


class TestImagePaths:
    def test_files_as_named_and_folders_sorted(self, tmp_path):
        write_folder(tmp_path, ["z.png", "set/b/2.png", "set/a.png", "set/b/1.jpg"])
        (tmp_path / "set" / "notes.txt").write_text("")
        odd = tmp_path / "upload"
        odd.write_bytes((tmp_path / "z.png").read_bytes())
        got = open_paths([str(tmp_path / "z.png"), tmp_path / "set", odd])
        assert got.paths == [
            tmp_path / name for name in ("z.png", "set/a.png", "set/b/1.jpg", "set/b/2.png", "upload")
        ]

    def test_missing_path_is_an_error(self, tmp_path):
        write_image(tmp_path / "photo.png")
        with pytest.raises(
            SourceError, match=r"foto\.png: no such file or folder; did you mean '.*photo\.png'"
        ):
            open_paths([tmp_path / "photo.png", tmp_path / "foto.png"])

    def test_missing_relative_path_is_an_error(self, tmp_path, monkeypatch):
        write_image(tmp_path / "photo.png")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(
            SourceError, match=r"^foto\.png: no such file or folder; did you mean 'photo\.png'"
        ):
            open_paths(["foto.png"])

    def test_folder_without_images_is_an_error(self, tmp_path):
        with pytest.raises(SourceError, match="no image found in this folder"):
            open_paths([tmp_path])


class TestPathSource:
    def test_keeps_the_order_given(self, tmp_path):
        write_folder(tmp_path, ["b.png", "a.png"])
        paths = [tmp_path / "b.png", tmp_path / "a.png", tmp_path / "gone.png", tmp_path / "b.png"]
        source = PathSource(paths)
        assert [source.display_name(row) for row in range(4)] == [str(path) for path in paths]
        assert source.table.ids.tolist() == [os.fsencode(path) for path in paths]
        assert source.table.labels.tolist() == [-1] * 4
        data, stamp = source.read(1)
        assert data == paths[1].read_bytes()
        assert stamp == source.table.stamps[1].tobytes()
        assert source.table.stamps[2].tobytes() == NO_STAMP
        with pytest.raises(FileNotFoundError):
            source.read(2)

    def test_may_be_empty(self):
        assert len(PathSource([]).table) == 0
