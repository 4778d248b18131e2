"""CSV files of a folder, as columns."""

import pytest

from frostline.errors import FrostlineError
from frostline.files.tables import read_table


def read(folder, limit=1000):
    return read_table(folder, "t.csv", raises=FrostlineError, remedy="Write it again.", limit=limit)


def test_columns_have_the_texts_that_were_written(tmp_path):
    (tmp_path / "t.csv").write_text("id,'=a\n1,'-2\n3,4\n")
    assert read(tmp_path) == {"id": ("1", "3"), "=a": ("-2", "4")}


@pytest.mark.parametrize("text", ["", "a,b\n"])
def test_a_table_may_have_no_rows(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    assert read(tmp_path) == dict.fromkeys(text.strip().split(",") if text else (), ())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a,b\n1\n", "line 2 has 1 cells, expected 2"),
        (b"a\n\0\n", "a null character"),
        (b"a\n\xff\n", "can't decode byte 0xff"),
        (b'a\n"1\n', "unexpected end of data"),
    ],
)
def test_another_content_is_one_error(tmp_path, data, message):
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(FrostlineError, match=rf"t\.csv can't be read: .*{message}.* Write it again\."):
        read(tmp_path)


def test_a_missing_file_is_no_damaged_one(tmp_path):
    with pytest.raises(FileNotFoundError):
        read(tmp_path)
