import csv
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from frostline.features.errors import SourceError
from frostline.features.sources import PathSource, SourceKind, image_paths, open_source
from frostline.features.sources import listing as listing_module
from frostline.features.sources.folder import open_folder
from frostline.features.table import NO_STAMP
from frostline.pipeline import extract
from frostline.splits import SPLITS, Split
from tests.features.sources.contract import ImageSourceContract
from tests.helpers.images import write_folder, write_image


def columns(source):
    """What the table says of each id: label, split, group, as text."""
    table = source.table
    return {
        id_.decode(): (table.classes[label] if label >= 0 else None, SPLITS[split], group.decode())
        for id_, label, split, group in zip(table.ids, table.labels, table.split, table.groups, strict=True)
    }


def stat_of(source, row):
    """Size and modification time behind the stamp of a file."""
    return source.table.stamps.view(np.int64)[row].tolist()


def write_manifest(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",").writerows(rows)
    return path


def write_parquet(file, /, **cells):
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra parquet")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(cells), file)
    return file


LONG_AGO = 1_500_000_000_000_000_000
NAMES = ["b/2.png", "a/1.jpg", "a/deep/er/3.png", "b/ü ñ.png", "a.c/1.png"]


ALBUM = SourceKind(
    "album:FOLDER",
    lambda data: data.startswith("album:"),
    lambda data: open_folder(data.removeprefix("album:")),
)


class FileSourceContract(ImageSourceContract):
    """What also holds where the images are files; a subclass gives `source`, made over the images `NAMES`."""

    @pytest.fixture
    def files(self, source):
        return {name: Path(source.folder, name).read_bytes() for name in NAMES}

    def reopened(self, source):
        return open_source(source.root)

    def write(self, source, row, data):
        Path(source.display_name(row)).write_bytes(data)

    def remove(self, source, row):
        Path(source.display_name(row)).unlink()

    def test_labels_index_the_classes(self, source):
        assert source.table.classes == ("a", "a.c", "b")
        assert {id_: label for id_, (label, _, _) in columns(source).items()} == {
            name: name.split("/")[0] for name in NAMES
        }

    def test_root_is_absolute(self, source):
        assert Path(source.root).is_absolute()
        assert Path(source.root).exists()

    def test_an_image_is_shown_by_its_path(self, source, files):
        for row, id_ in enumerate(source.table.ids):
            assert Path(source.display_name(row)).is_absolute()
            assert Path(source.display_name(row)).read_bytes() == files[id_.decode()]

    def test_stamp_is_size_and_time_as_stored_in_caches(self, source):
        for row in range(len(NAMES)):
            status = Path(source.display_name(row)).stat()
            assert stat_of(source, row) == [status.st_size, status.st_mtime_ns]

    def test_a_file_changed_up_to_two_seconds_before_is_unsettled(self, source):
        changed = stat_of(source, 1)[1]
        os.utime(source.display_name(0), ns=(LONG_AGO, LONG_AGO))
        again = self.reopened(source)
        assert again.unsettled(changed).tolist() == [False] + [True] * 4
        assert again.unsettled(changed + 10**13).tolist() == [False] * 5


class TestFolderSource(FileSourceContract):
    @pytest.fixture
    def source(self, tmp_path):
        return open_source(write_folder(tmp_path, NAMES))


class TestCsvSource(FileSourceContract):
    @pytest.fixture
    def source(self, tmp_path):
        write_folder(tmp_path, NAMES)
        rows = [(name, name.split("/")[0]) for name in NAMES]
        return open_source(write_manifest(tmp_path / "set.csv", ("path", "label"), *rows))


class TestParquetSource(FileSourceContract):
    @pytest.fixture
    def source(self, tmp_path):
        write_folder(tmp_path, NAMES)
        labels = [name.split("/")[0] for name in NAMES]
        return open_source(write_parquet(tmp_path / "set.parquet", path=NAMES, label=labels))


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
        with pytest.raises(SourceError, match=r"'train' look like splits|'test', 'train' look like splits"):
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
        assert source.skipped == 5

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
        assert [*columns(open_source(tmp_path))] == ["a/b/1.png"]

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
        assert len(open_source(tmp_path).table) == 1

    @pytest.mark.skipif(sys.platform != "linux", reason="needs a file system that takes any name")
    def test_name_that_is_not_utf8_is_an_error_that_shows_it(self, tmp_path):
        write_folder(tmp_path, ["a/1.png"])
        os.rename(tmp_path / "a" / "1.png", os.fsencode(tmp_path) + b"/a/caf\xe9.png")  # noqa: PTH104
        with pytest.raises(SourceError, match=r"b'a/caf\\xe9.png' is not UTF-8"):
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

    def test_empty_folder_error_lists_expected_layouts(self, tmp_path):
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "1.heic").write_text("")
        with pytest.raises(SourceError, match=r"no image found in 2 folder\(s\), where 1 .*class/….*\.jpg, "):
            open_source(tmp_path)


class TestOpenSource:
    def test_missing_data_names_a_near_match(self, tmp_path):
        write_folder(tmp_path / "flowers" / "set", ["a/1.png"])
        with pytest.raises(SourceError, match=r"flowrs: no such file or folder; did you mean '.*flowers'"):
            open_source(tmp_path / "flowrs")
        with pytest.raises(SourceError, match=r"because '.*flowrs' doesn't exist; did you mean '.*flowers'"):
            open_source(tmp_path / "flowrs" / "set")
        with pytest.raises(SourceError, match=r"zzz: no such file or folder$"):
            open_source(tmp_path / "zzz")

    def test_third_party_source_is_opened_and_extracted(self, tmp_path, declare):
        declare("frostline.image_sources", album=f"{__name__}:ALBUM")
        write_folder(tmp_path / "photos", NAMES)
        named = f"album:{tmp_path / 'photos'}"
        assert columns(open_source(named)) == columns(open_source(tmp_path / "photos"))
        assert len(open_source(named, limit=2).table) == 2
        done = extract(named, backbone="timm:test_resnet", weights="random", cache=tmp_path / "c.h5")
        assert (done.rows, done.computed) == (len(NAMES), len(NAMES))
        with pytest.raises(SourceError, match=r"1\.jpg: expected an image folder, .*, or album:FOLDER$"):
            open_source(tmp_path / "photos" / "a" / "1.jpg")

    def test_broken_third_party_source_is_reported(self, tmp_path, declare):
        declare("frostline.image_sources", album="no_such_module:ALBUM")
        write_image(tmp_path / "photos" / "1.png")
        assert len(open_source(tmp_path / "photos").table) == 1
        with pytest.raises(
            SourceError, match=r"image source 'album' \(no_such_module:ALBUM\) can't be imported"
        ):
            open_source(tmp_path / "photos" / "1.png")

    def test_invalid_source_kind_is_refused(self, tmp_path, declare):
        declare("frostline.image_sources", album="json:dumps")
        with pytest.raises(
            SourceError, match=r"\(json:dumps\) is .*; expected a features\.sources\.SourceKind"
        ):
            open_source(tmp_path / "nowhere")

    def test_other_files_are_an_error(self, tmp_path):
        path = write_image(tmp_path / "1.png")
        with pytest.raises(
            SourceError, match=r"1\.png: expected an image folder, or a manifest ending in \.csv"
        ):
            open_source(path)

    def test_limit_takes_evenly_spaced_rows_and_keeps_all_classes(self, tmp_path):
        names = [f"{name}/{index}.png" for name in "abcde" for index in range(4)]
        whole = open_source(write_folder(tmp_path, names)).table
        source = open_source(tmp_path, limit=5)
        assert source.table.ids.tolist() == whole.ids[[0, 4, 8, 12, 16]].tolist()
        assert source.table.labels.tolist() == [0, 1, 2, 3, 4]
        assert source.table.classes == whole.classes == tuple("abcde")
        assert source.read(3)[0] == (tmp_path / "d" / "0.png").read_bytes()
        two = open_source(tmp_path, limit=2)
        assert two.table.classes == whole.classes
        assert two.table.stamps.tolist() == whole.stamps[[0, 10]].tolist()

    @pytest.mark.parametrize("limit", [3, 4, 10**12])
    def test_limit_beyond_the_set_is_the_set(self, tmp_path, limit):
        write_folder(tmp_path, ["a/1.png", "a/2.png", "b/3.png"])
        assert len(open_source(tmp_path, limit=limit).table) == 3

    @pytest.mark.parametrize("limit", [0, -1])
    def test_limit_below_one_is_an_error(self, tmp_path, limit):
        write_folder(tmp_path, ["a/1.png"])
        with pytest.raises(SourceError, match=f"limit: got {limit}"):
            open_source(tmp_path, limit=limit)


class TestManifest:
    @pytest.fixture
    def root(self, tmp_path):
        return write_folder(tmp_path, ["1.png", "2.png", "sub/3.png"])

    @pytest.mark.parametrize("suffix", ["csv", "tsv"])
    def test_all_columns_in_any_order_with_others_between(self, root, suffix):
        path = write_manifest(
            root / f"set.{suffix}",
            ("group", "Label ", "comment", "path", "split"),
            ("p1", "cat", "a, b", "1.png", "train"),
            ("p1", " dog ", "", "2.png", "VALID"),
            ("", "", "", "sub/3.png", ""),
        )
        assert columns(open_source(path)) == {
            "1.png": ("cat", "train", "p1"),
            "2.png": ("dog", "val", "p1"),
            "sub/3.png": (None, "", ""),
        }

    def test_byte_order_mark_blank_lines_and_carriage_returns(self, root):
        path = root / "set.csv"
        path.write_bytes('\ufeffpath,label\r\n1.png,ä\r\n\r\n"2.png",ö\r\n'.encode())
        assert columns(open_source(path)) == {"1.png": ("ä", "", ""), "2.png": ("ö", "", "")}

    def test_label_may_be_left_out(self, root):
        source = open_source(write_manifest(root / "set.csv", ["path"], ["1.png"], ["2.png"]))
        assert source.table.classes == ()
        assert source.table.labels.tolist() == [-1, -1]

    def test_integer_labels_are_in_numeric_order(self, root):
        rows = [("1.png", "10"), ("2.png", " 2"), ("sub/3.png", "")]
        source = open_source(write_manifest(root / "set.csv", ("path", "label"), *rows))
        assert source.table.classes == ("2", "10")
        assert source.table.labels.tolist() == [1, 0, -1]

    def test_rows_are_sorted_by_id_with_all_their_columns(self, root):
        rows = [("sub/3.png", "c", "test", "g3"), ("1.png", "a", "train", "g1"), ("2.png", "b", "val", "g2")]
        source = open_source(write_manifest(root / "set.csv", ("path", "label", "split", "group"), *rows))
        assert [*columns(source).items()] == [
            ("1.png", ("a", "train", "g1")),
            ("2.png", ("b", "val", "g2")),
            ("sub/3.png", ("c", "test", "g3")),
        ]
        assert stat_of(source, 2)[0] == (root / "sub" / "3.png").stat().st_size

    def test_absolute_paths_and_paths_out_of_the_folder(self, root):
        path = write_manifest(
            root / "lists" / "set.csv", ("path", "label"), (root / "1.png", "a"), ("../2.png", "b")
        )
        source = open_source(path)
        assert columns(source) == {"../2.png": ("b", "", ""), str(root / "1.png"): ("a", "", "")}
        assert source.read(0)[0] == (root / "2.png").read_bytes()
        assert source.read(1)[0] == (root / "1.png").read_bytes()

    def test_missing_file_is_kept_as_unreadable(self, root):
        source = open_source(
            write_manifest(root / "set.csv", ("path", "label"), ("1.png", "a"), ("4.png", "b"), ("sub", "c"))
        )
        assert [stamp.tobytes() for stamp in source.table.stamps[1:]] == [NO_STAMP] * 2
        assert source.table.classes == ("a", "b", "c")
        with pytest.raises(FileNotFoundError):
            source.read(1)
        with pytest.raises(IsADirectoryError):
            source.read(2)

    def test_device_is_not_read(self, root):
        source = open_source(write_manifest(root / "set.csv", ["path"], ["1.png"], ["/dev/zero"]))
        with pytest.raises(OSError, match="not a regular file"):
            source.read(0)

    def test_manifest_of_missing_files_reports_path(self, root):
        path = write_manifest(root / "lists" / "set.csv", ("path", "label"), ("1.png", "a"), ("2.png", "b"))
        with pytest.raises(SourceError, match=r"none of its 2 files.*line 2 points to .*/lists/1\.png"):
            open_source(path)

    def test_duplicate_names_both_lines(self, root):
        path = write_manifest(
            root / "set.csv", ("path", "label"), ("1.png", "a"), ("2.png", "b"), ("./1.png", "a")
        )
        with pytest.raises(
            SourceError, match=r"set\.csv, line 4, column 'path': '\./1\.png' is already in line 2"
        ):
            open_source(path)

    def test_line_numbers_count_lines_within_quotes(self, root):
        path = root / "set.csv"
        path.write_text('path,label\n1.png,"two\nlines"\n2.png,b,c\n')
        with pytest.raises(SourceError, match=r"set\.csv, line 4: got 3 cells, expected 2 \(path,label\)"):
            open_source(path)

    @pytest.mark.parametrize(
        ("header", "message"),
        [
            (("path", "lable"), "line 1: no column 'label', but 'lable'; did you mean 'label'"),
            (("pth", "label"), "line 1: no column 'path', but 'pth'; did you mean 'path'"),
            (("path", "label", "Groups"), "no column 'group', but 'Groups'"),
            (("filename", "class"), "line 1: no column 'path'; got 'filename', 'class'"),
            (("path;label",), "line 1: no column 'path'; got 'path;label'"),
            (("path", "label", "Path"), "line 1: got 2 columns named 'path'"),
        ],
    )
    def test_header(self, root, header, message):
        path = write_manifest(root / "set.csv", header, ["1.png"] * len(header))
        with pytest.raises(
            SourceError, match=f"{path}, {message}" if message.startswith("line") else message
        ):
            open_source(path)

    @pytest.mark.parametrize("cell", ["", "  ", "a\0b"])
    def test_no_path(self, root, cell):
        path = write_manifest(root / "set.csv", ("path", "label"), ("1.png", "a"), (cell, "b"))
        with pytest.raises(
            SourceError, match=r"line 3, column 'path': got '.*'; expected an image file's path"
        ):
            open_source(path)

    def test_unknown_split(self, root):
        path = write_manifest(root / "set.csv", ("path", "label", "split"), ("1.png", "a", "trian"))
        with pytest.raises(SourceError, match=r"line 2, column 'split': got 'trian'; expected train, val, "):
            open_source(path)

    @pytest.mark.parametrize("content", [b"", b"path,label\n", b"\n"])
    def test_nothing_listed(self, root, content):
        (root / "set.csv").write_bytes(content)
        with pytest.raises(SourceError, match=r"lists no image|an empty file"):
            open_source(root / "set.csv")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"path,label\n1.png,caf\xe9\n", "byte 0xe9 is not UTF-8"),
            ("path,label\n1.png,a\n".encode("utf-16"), "byte 0xff is not UTF-8"),
            (b'path,label\n1.png,"a" b\n', "line 2: .*RFC 4180"),
            (b'path,label\n1.png,"a\n', "line 2: .*RFC 4180"),
        ],
    )
    def test_damaged_text(self, root, content, message):
        (root / "set.csv").write_bytes(content)
        with pytest.raises(SourceError, match=message):
            open_source(root / "set.csv")

    def test_unreadable_manifest(self, root, monkeypatch):
        path = write_manifest(root / "set.csv", ["path"], ["1.png"])

        def deny(*_, **__):
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(Path, "open", deny)
        with pytest.raises(SourceError, match=r"set\.csv: the manifest can't be read: Permission denied"):
            open_source(path)


class TestParquet:
    @pytest.fixture
    def root(self, tmp_path):
        return write_folder(tmp_path, ["1.png", "2.png", "3.png"])

    def test_all_columns(self, root):
        path = write_parquet(
            root / "set.parquet",
            embedding=[[0.5], [0.5], [0.5]],
            path=["3.png", "1.png", "2.png"],
            label=[10, 2, None],
            split=["test", None, "train"],
            group=["g", "", None],
        )
        source = open_source(path)
        assert source.table.classes == ("2", "10")
        assert columns(source) == {
            "1.png": ("2", "", ""),
            "2.png": (None, "train", ""),
            "3.png": ("10", "test", "g"),
        }

    def test_whole_numbers_that_pandas_made_float(self, root):
        path = write_parquet(
            root / "set.parquet", path=["1.png", "2.png", "3.png"], label=[1.0, float("nan"), 10.0]
        )
        assert open_source(path).table.classes == ("1", "10")

    def test_errors_name_the_row(self, root):
        path = write_parquet(root / "set.parquet", path=["1.png", "2.png", "1.png"])
        with pytest.raises(
            SourceError, match=r"set\.parquet, row 3, column 'path': '1\.png' is already in row 1"
        ):
            open_source(path)

    def test_misspelt_column(self, root):
        path = write_parquet(root / "set.parquet", path=["1.png"], lable=["a"])
        with pytest.raises(SourceError, match=r"set\.parquet, its schema: no column 'label', but 'lable'"):
            open_source(path)

    def test_no_rows(self, root):
        with pytest.raises(SourceError, match="lists no image"):
            open_source(write_parquet(root / "set.parquet", path=[]))

    def test_not_parquet(self, root):
        pytest.importorskip("pyarrow", reason="needs the extra parquet")
        (root / "set.parquet").write_text("path,label\n1.png,a\n")
        with pytest.raises(SourceError, match=r"set\.parquet: not a readable Parquet file"):
            open_source(root / "set.parquet")

    def test_without_pyarrow_says_what_to_install(self, root, monkeypatch):
        (root / "set.parquet").write_bytes(b"PAR1")
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(SourceError, match=r"pip install 'frostline\[parquet\]'"):
            open_source(root / "set.parquet")


class TestImagePaths:
    def test_files_as_named_and_folders_sorted(self, tmp_path):
        write_folder(tmp_path, ["z.png", "set/b/2.png", "set/a.png", "set/b/1.jpg"])
        (tmp_path / "set" / "notes.txt").write_text("")
        odd = tmp_path / "upload"
        odd.write_bytes((tmp_path / "z.png").read_bytes())
        got = image_paths([str(tmp_path / "z.png"), tmp_path / "set", odd])
        assert got == [
            tmp_path / name for name in ("z.png", "set/a.png", "set/b/1.jpg", "set/b/2.png", "upload")
        ]

    def test_missing_path_is_an_error(self, tmp_path):
        write_image(tmp_path / "photo.png")
        with pytest.raises(
            SourceError, match=r"foto\.png: no such file or folder; did you mean '.*photo\.png'"
        ):
            image_paths([tmp_path / "photo.png", tmp_path / "foto.png"])

    def test_missing_relative_path_is_an_error(self, tmp_path, monkeypatch):
        write_image(tmp_path / "photo.png")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(
            SourceError, match=r"^foto\.png: no such file or folder; did you mean 'photo\.png'"
        ):
            image_paths(["foto.png"])

    def test_folder_without_images_is_an_error(self, tmp_path):
        with pytest.raises(SourceError, match="no image found in this folder"):
            image_paths([tmp_path])


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
