"""Manifests as JSON Lines."""

import json
import os

import pytest

from frostline.features.errors import SourceError
from frostline.features.sources import open_source, summarise


@pytest.fixture
def write(ten_digits, tmp_path):
    """Function that writes lines to a manifest beside two images, and opens it."""
    images = sorted(ten_digits.glob("*/*"))[:2]

    def write(*lines, **options):
        text = "\n".join(
            line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines
        )
        (tmp_path / "m.jsonl").write_text(text, "utf-8")
        return open_source(tmp_path / "m.jsonl", **options)

    write.paths = [os.path.relpath(image, tmp_path) for image in images]
    return write


def test_keys_are_columns(write):
    first, second = write.paths
    source = write(
        {"path": first, "label": "Pâté", "split": "train", "group": 7},
        "",
        {"label": True, "path": second, "age": 3.5, "group": 8.0},
    )
    assert sorted(source.table.ids.tolist()) == sorted([first.encode(), second.encode()])
    rows = [source.table.ids.tolist().index(path.encode()) for path in (first, second)]
    assert [source.table.classes[source.table.labels[row]] for row in rows] == ["Pâté", "true"]
    assert [source.table.groups[row] for row in rows] == [b"7", b"8"]
    found = summarise(source)
    assert found.columns == {"path": "path", "label": "label", "split": "split", "group": "group"}
    assert (found.side_columns, found.unused_columns) == (("age",), ())


def test_chosen_columns(write):
    first, second = write.paths
    source = write(
        {"file": first, "kind": 1}, {"file": second, "kind": None}, path_column="file", label_column="kind"
    )
    assert source.table.classes == ("1",)
    assert sorted(source.table.labels.tolist()) == [-1, 0]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"m\.jsonl, line 2: not JSON"),
        ("[1]", r"m\.jsonl, line 2: got '\[1\]', expected an object such as"),
        (
            '{"path": ["a"]}',
            r"m\.jsonl, line 2, column 'path': got \[\"a\"\], expected one text or number as path",
        ),
        ("[" * 100_000, r"m\.jsonl, line 2: not JSON"),
        ('{"path": ""}', r"m\.jsonl, line 2, column 'path': got ''; expected an image file's path"),
    ],
)
def test_other_lines_are_refused(write, line, message):
    with pytest.raises(SourceError, match=message):
        write({"path": write.paths[0]}, line)


def test_bytes_that_are_no_utf_8_are_refused(tmp_path):
    (tmp_path / "m.jsonl").write_bytes(b'{"path": "a.png"}\n{"path": "\xe9.png"}\n')
    with pytest.raises(SourceError, match="is not UTF-8; save the file as UTF-8"):
        open_source(tmp_path / "m.jsonl")


def test_a_key_twice_is_refused_with_its_line(write):
    first, second = write.paths
    again = f'{{"path": "{second}", "label": "a", "label": "b"}}'
    with pytest.raises(SourceError, match=r"m\.jsonl, line 2: has the key 'label' 2 times"):
        write({"path": first, "label": "a"}, again)
    nested = f'{{"path": "{second}", "label": "a\\":", "more": {{"label": 1, "n": 1}}}}'
    assert write({"path": first, "label": "a"}, nested).table.classes == ("a", 'a":')
