"""What a manifest, CSV or Parquet, says of its images."""

import itertools
import os
import sys
from pathlib import PurePath

import numpy as np
import pytest

from frostline.features.errors import SourceError
from frostline.features.sources import disk_names, open_source, stats
from frostline.features.sources.manifests import manifest
from frostline.features.sources.manifests.sheet import Sheet
from frostline.features.sources.stats import UNREADABLE, file_stat, file_stats
from frostline.features.table import NO_STAMP
from tests.helpers.images import write_folder
from tests.helpers.tables import columns, stat_of, write_manifest, write_parquet


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
            (("path;label",), "line 1: no column 'path', because ';' separates the columns"),
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
        with pytest.raises(
            SourceError, match=r"line 2, column 'split': got 'trian'; expected train, training, val, "
        ):
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
            ("path,label\n1.png,a\n".encode("utf-16"), "is UTF-16 text; save the file as UTF-8"),
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

        monkeypatch.setattr("frostline.features.sources.manifests.text.open_regular", deny)
        with pytest.raises(SourceError, match=r"set\.csv: the manifest can't be read: Permission denied"):
            open_source(path)


def test_blanks_around_a_path_are_dropped_where_the_file_has_none(tmp_path):
    root = write_folder(tmp_path, ["im/1.png", "im/ 2.png"])
    (root / "set.csv").write_text("label, path\ncat, im/1.png\ndog,im/ 2.png \n")
    assert columns(open_source(root / "set.csv")).keys() == {"im/1.png", "im/ 2.png"}


@pytest.mark.parametrize("second", ["im/../im/1.png", "./im/1.png", "im//1.png"])
def test_another_spelling_of_a_path_is_the_same_image(tmp_path, second):
    root = write_folder(tmp_path, ["im/1.png"])
    (root / "set.csv").write_text(f"path,label\nim/1.png,cat\n{second},dog\n")
    with pytest.raises(
        SourceError, match=r"line 3, column 'path'.* is already in line 2; expected each image once"
    ):
        open_source(root / "set.csv")


def test_tables_of_spreadsheets_say_what_is_wrong(tmp_path):
    root = write_folder(tmp_path, ["1.png"])
    (root / "semicolon.csv").write_text("path;label\n1.png;a\n")
    with pytest.raises(
        SourceError, match=r"no column 'path', because ';' separates the columns; expected commas"
    ):
        open_source(root / "semicolon.csv")
    (root / "commas.tsv").write_text("path,label\n1.png,a\n")
    with pytest.raises(SourceError, match=r"because ',' separates the columns.* tabs in a TSV"):
        open_source(root / "commas.tsv")
    (root / "wide.csv").write_text("path,label\n1.png,a\n", encoding="utf-16")
    with pytest.raises(SourceError, match=r"UTF-16 text; save the file as UTF-8"):
        open_source(root / "wide.csv")


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

    @pytest.mark.parametrize("kind", ["float32", "float16"])
    def test_short_floats_are_the_text_that_csv_has(self, root, kind):
        path = write_parquet(root / "set.parquet", path=["1.png", "2.png"], label=np.array([0.1, 2.5], kind))
        assert open_source(path).table.classes == ("0.1", "2.5")


PARTS = ("a", ".", "..", "", "a.b", ".c", "d.")


def test_paths_are_written_as_before():
    sheet = Sheet("m.csv", ["path"], {"path": 0}, {}, [2], "line")
    for length in range(1, 5):
        for parts in itertools.product(PARTS, repeat=length):
            cell = "/".join(parts)
            if cell:
                assert manifest._id(cell, sheet, 0) == PurePath(cell).as_posix()


def test_many_stats_are_those_of_single_files(tmp_path):
    write_folder(tmp_path, ["a/1.png", "a/2.png"])
    paths = [str(tmp_path / f"a/{number % 3}.png") for number in range(3 * stats._CHUNK + 1)]
    found = file_stats(paths)
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
