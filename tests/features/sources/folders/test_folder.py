"""What a folder of images says of them."""

import os
import sys
from pathlib import Path

import pytest

from frostline.features.errors import SourceError
from frostline.features.sources import open_source
from frostline.features.sources.folders import listing as listing_module
from frostline.features.table import NO_STAMP
from frostline.splits import Split
from tests.helpers.images import write_folder, write_image
from tests.helpers.tables import columns, stat_of


class TestFolder:
    def test_relative_paths_and_str_are_accepted(self, tmp_path, monkeypatch):
        write_folder(tmp_path / "set", ["a/1.png"])
        monkeypatch.chdir(tmp_path)
        source = open_source("set")
        assert source.root == str(tmp_path / "set")
        monkeypatch.chdir("/")
        assert source.read(0)[0]

    def test_splits(self, tmp_path):
        names = ["train/cat/1.png", "train/dog/x/2.png", "val/cat/3.png", "test/owl/4.png"]
        assert columns(open_source(write_folder(tmp_path, names))) == {
            "train/cat/1.png": ("cat", "train", ""),
            "train/dog/x/2.png": ("dog", "train", ""),
            "val/cat/3.png": ("cat", "val", ""),
            "test/owl/4.png": ("owl", "test", ""),
        }

    @pytest.mark.parametrize("name", ["val", "valid", "validation", "Valid"])
    def test_names_of_the_validation_split(self, tmp_path, name):
        source = open_source(write_folder(tmp_path, ["Train/cat/1.png", f"{name}/cat/2.png"]))
        assert sorted(source.table.split.tolist()) == [Split.TRAIN, Split.VAL]

    def test_unlabelled_test_split(self, tmp_path):
        found = columns(open_source(write_folder(tmp_path, ["train/cat/1.png", "test/2.png"])))
        assert found["test/2.png"] == (None, "test", "")

    def test_images_without_class_folders_are_unlabelled(self, tmp_path):
        source = open_source(write_folder(tmp_path, ["1.png", "2.png"]))
        assert source.table.classes == ()
        assert source.table.labels.tolist() == [-1, -1]
        assert source.table.split.tolist() == [Split.NONE, Split.NONE]

    def test_image_beside_class_folders_is_unlabelled(self, tmp_path):
        found = columns(open_source(write_folder(tmp_path, ["contact sheet.png", "train/cat/1.png"])))
        assert found["contact sheet.png"] == (None, "", "")
        assert found["train/cat/1.png"] == ("cat", "train", "")

    def test_train_can_be_a_class(self, tmp_path):
        source = open_source(write_folder(tmp_path, ["train/1.png", "car/2.png", "plane/jet/3.png"]))
        assert source.table.classes == ("car", "plane", "train")
        assert not source.table.split.any()

    @pytest.mark.parametrize(
        "names",
        [
            ["train/cat/1.png", "test/cat/2.png", "extra/cat/3.png"],
            ["train/cat/1.png", "cat/2.png"],
            ["train/1.png", "test/2.png", "cat/3.png"],
        ],
    )
    def test_splits_mixed_with_others_are_an_error(self, tmp_path, names):
        with pytest.raises(SourceError, match=r"'train' looks like a split|'test', 'train' look like splits"):
            open_source(write_folder(tmp_path, names))

    def test_folder_without_images_does_not_make_a_mixture_or_a_class(self, tmp_path):
        write_folder(tmp_path, ["train/cat/1.png", "test/cat/2.png"])
        (tmp_path / "annotations").mkdir()
        (tmp_path / "annotations" / "boxes.json").write_text("{}")
        (tmp_path / "train" / "empty").mkdir()
        source = open_source(tmp_path)
        assert source.table.classes == ("cat",)
        assert source.table.split.tolist() == [Split.TEST, Split.TRAIN]

    def test_integer_classes_are_in_numeric_order(self, tmp_path):
        source = open_source(write_folder(tmp_path, ["10/1.png", "2/1.png", "-1/1.png", "02/1.png"]))
        assert source.table.classes == ("-1", "02", "2", "10")

    def test_other_classes_are_in_text_order(self, tmp_path):
        source = open_source(write_folder(tmp_path, ["10/1.png", "2/1.png", "x/1.png"]))
        assert source.table.classes == ("10", "2", "x")

    def test_hidden_entries_and_other_files_are_skipped_and_counted(self, tmp_path):
        write_folder(tmp_path, ["a/1.PNG", "a/2.JPeG", "a/._1.png", ".git/a/3.png", "a/.thumbs/4.png"])
        (tmp_path / "a" / "notes.txt").write_text("")
        (tmp_path / "a" / "png").write_text("")
        source = open_source(tmp_path)
        assert [*columns(source)] == ["a/1.PNG", "a/2.JPeG"]
        assert source.notes.skipped.hidden == 3
        assert source.notes.skipped.files == {"": 1, ".txt": 1}
        assert source.notes.skipped.count == 5

    def test_links_to_files_and_folders_are_followed(self, tmp_path):
        write_image(tmp_path / "elsewhere" / "1.png", seed=7)
        root = write_folder(tmp_path / "set", ["a/1.png"])
        (root / "a" / "2.png").symlink_to(tmp_path / "elsewhere" / "1.png")
        (root / "b").symlink_to(tmp_path / "elsewhere")
        source = open_source(root)
        assert columns(source).keys() == {"a/1.png", "a/2.png", "b/1.png"}
        assert stat_of(source, 1) == stat_of(source, 2) != [-1, -1]
        assert source.read(1) == source.read(2)

    def test_link_to_a_folder_that_holds_it_is_not_followed(self, tmp_path):
        write_folder(tmp_path, ["a/b/1.png"])
        (tmp_path / "a" / "b" / "up").symlink_to(tmp_path / "a")
        (tmp_path / "a" / "top").symlink_to(tmp_path)
        (tmp_path / "a" / "self").symlink_to(tmp_path / "a" / "self")
        source = open_source(tmp_path)
        assert [*columns(source)] == ["a/b/1.png"]
        assert source.notes.skipped.loops == 2

    def test_dangling_link_is_listed_as_unreadable(self, tmp_path):
        write_folder(tmp_path, ["a/1.png"])
        (tmp_path / "a" / "2.png").symlink_to(tmp_path / "gone.png")
        source = open_source(tmp_path)
        assert source.table.stamps[1].tobytes() == NO_STAMP
        with pytest.raises(FileNotFoundError):
            source.read(1)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
    def test_pipe_is_skipped(self, tmp_path):
        write_folder(tmp_path, ["a/1.png"])
        os.mkfifo(tmp_path / "a" / "2.png")
        source = open_source(tmp_path)
        assert len(source.table) == 1
        assert source.notes.skipped.special == 1

    @pytest.mark.skipif(sys.platform != "linux", reason="needs a file system that takes any name")
    def test_name_that_is_not_utf8_is_an_error_that_shows_it(self, tmp_path):
        write_folder(tmp_path, ["a/1.png"])
        os.rename(tmp_path / "a" / "1.png", os.fsencode(tmp_path) + b"/a/caf\xe9.png")  # noqa: PTH104
        with pytest.raises(SourceError, match=r": 1 file name is not UTF-8 text: b'a/caf\\xe9.png'; rename"):
            open_source(tmp_path)
        for number in range(4):
            Path(os.fsdecode(os.fsencode(tmp_path) + b"/a/%d\xe9.png" % number)).write_bytes(b"")
        with pytest.raises(
            SourceError, match=r": 5 file names are not UTF-8 text: b'a/0.* and 2 more; rename"
        ):
            open_source(tmp_path)

    def test_folder_that_cannot_be_read_is_an_error(self, tmp_path, monkeypatch):
        write_folder(tmp_path, ["a/1.png", "b/1.png"])
        scandir = os.scandir

        def deny(path):
            if str(path).rstrip("/").endswith("/b"):
                raise PermissionError(13, "Permission denied", path)
            return scandir(path)

        monkeypatch.setattr(listing_module.os, "scandir", deny)
        with pytest.raises(SourceError, match="/b/: the folder can't be read: Permission denied"):
            open_source(tmp_path)

    def test_folders_of_systems_are_passed_over_and_counted_by_name(self, tmp_path):
        pictures = ["a/1.png", "b/2.png"]
        made = [
            "a/@eaDir/1.png/THUMB_SM.jpg",
            "@eaDir/x.png",
            "#recycle/a/3.png",
            "$RECYCLE.BIN/4.png",
            "lost+found/5.png",
            "System Volume Information/6.png",
            "a/.ipynb_checkpoints/7.png",
            "__MACOSX/a/8.png",
            "b/.thumbnails/9.png",
        ]
        source = open_source(write_folder(tmp_path, pictures + made))
        assert [*columns(source)] == pictures
        assert source.notes.skipped.folders == {
            "#recycle": 1,
            "$RECYCLE.BIN": 1,
            ".ipynb_checkpoints": 1,
            ".thumbnails": 1,
            "@eaDir": 2,
            "System Volume Information": 1,
            "__MACOSX": 1,
            "lost+found": 1,
        }

    def test_a_system_folder_that_cannot_be_read_is_no_error(self, tmp_path, monkeypatch):
        write_folder(tmp_path, ["a/1.png", "lost+found/2.png"])
        scandir = os.scandir

        def deny(path):
            if "lost+found" in str(path):
                raise PermissionError(13, "Permission denied", path)
            return scandir(path)

        monkeypatch.setattr(listing_module.os, "scandir", deny)
        assert len(open_source(tmp_path).table) == 1

    def test_class_folders_without_an_image_are_named(self, tmp_path):
        write_folder(tmp_path, ["train/cat/1.png", "train/dog/x/2.png", "test/cat/3.png"])
        (tmp_path / "test" / "dog" / "deep").mkdir(parents=True)
        (tmp_path / "train" / "dog" / "empty").mkdir()  # a folder within a class is no class
        (tmp_path / "notes").mkdir()
        (tmp_path / "notes" / "1.txt").write_text("")
        assert open_source(tmp_path).notes.skipped.empty_folders == ("notes", "test/dog")

    def test_formats_that_are_not_read_are_named_with_their_remedy(self, tmp_path, monkeypatch):
        monkeypatch.setattr("frostline.features.images.decoding.reads_heif", lambda: False)
        write_folder(tmp_path, ["cat/1.png"])
        for name in ("cat/2.HEIC", "cat/3.heif", "cat/4.NEF", "cat/5.svg", "cat/6.pdf", "cat/7.txt"):
            (tmp_path / name).write_text("")
        notes = open_source(tmp_path).notes
        assert notes.skipped.files == dict.fromkeys((".heic", ".heif", ".nef", ".pdf", ".svg", ".txt"), 1)
        heif, raw, drawings = notes.remarks
        assert "1 .heic, 1 .heif; to read them: pip install 'frostline[heif]'" in heif
        assert "1 .nef; develop" in raw
        assert "1 .pdf, 1 .svg; render" in drawings

    def test_empty_folder_error_lists_expected_layouts_and_what_was_passed_over(self, tmp_path, monkeypatch):
        monkeypatch.setattr("frostline.features.images.decoding.reads_heif", lambda: False)
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "1.heic").write_text("")
        with pytest.raises(
            SourceError,
            match=r"no image found in 2 folder\(s\), where 1 \.heic were skipped.*class/….*\.jpg, .*pip install",
        ):
            open_source(tmp_path)
