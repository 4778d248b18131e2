"""Parsing of JSON that nobody vouches for."""

import pytest
from msgspec import Struct

from frostline.errors import FrostlineError
from frostline.files.documents import Document, clipped, parse_json


class Point(Struct):
    x: int
    y: float


WRONG = {
    "empty": b"",
    "not UTF-8": b'{"x": "\xff"}',
    "NaN": b'{"x": NaN}',
    "NaN beside a surrogate": b'{"x": NaN, "y": "\\ud800", "z": 1}',
    "infinity beside a surrogate": b'{"x": 1e999, "y": "\\ud800", "z": 1}',
    "5,000 digits": b'{"x": ' + b"1" * 5000 + b"}",
    "deep lists": b"[" * 100_000,
    "deep objects beside a surrogate": b'{"y": "\\ud800", "x": ' + b'{"x": ' * 100_000,
    "rather deep": b'{"x":' * 50 + b"1" + b"}" * 50,
    "a list": b"[1]",
    "a missing field": b'{"x": 1}',
    "another type": b'{"x": "1", "y": 2}',
    "a long text": b'{"x": "' + b"1" * 1_000_000 + b'", "y": 2}',
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_one_line_with_the_file_and_the_remedy(name):
    document = Document("p.json", "a point", "Measure again.", FrostlineError)
    with pytest.raises(FrostlineError, match=r"^p\.json is not a point: .*\. Measure again\.$") as refusal:
        document.read(WRONG[name], Point)
    assert len(str(refusal.value)) < 500


def test_a_document_is_read_with_names_of_files_that_are_not_utf_8():
    assert parse_json(b'{"name": "\\udcff.png", "x": 1}') == {"name": "\udcff.png", "x": 1}


def test_a_long_text_is_shortened_and_stays_on_its_line():
    assert clipped("a\nb\x1b[31m") == "a b [31m"
    assert len(clipped("x" * 1000)) < 400
