"""Side columns: what is a number, what is a text, and what is not kept."""

import numpy as np
import pytest

from frostline.features.columns import MAX_COLUMNS, MAX_TEXT_BYTES, parse_column, parse_columns


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1", "-2.5", " 3e2 ", "+.5"], [1, -2.5, 300, 0.5]),
        (["31", "", "nan", "NaN"], [31, np.nan, np.nan, np.nan]),
        (["true", "False", ""], [1, 0, np.nan]),
        (["9007199254740992"], [2**53]),
        (["1e300", "0"], [1e300, 0]),
    ],
)
def test_columns_of_numbers(cells, expected):
    column = parse_column("age", cells)
    assert column.is_numeric
    np.testing.assert_array_equal(column.cells, expected)


@pytest.mark.parametrize(
    "cells",
    [
        ["007", "012"],
        ["9007199254740993", "1"],
        ["1e999"],
        ["1_0"],
        ["0x1F"],
        ["1,5"],
        ["NA", "3"],
        ["inf"],
        ["١٢"],
        ["female", " male ", ""],
    ],
)
def test_all_other_columns_are_text_as_written(cells):
    column = parse_column("code", cells)
    assert not column.is_numeric
    assert column.cells.tolist() == [cell.strip() for cell in cells]


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("caption", ["é" * (MAX_TEXT_BYTES // 2) + "x"]),
        ("bytes", ["a\0b"]),
        ("empty", [" "]),
        ("surrogate", ["\ud800"]),
        (" ", ["1"]),
        ("n" * (MAX_TEXT_BYTES + 1), ["1"]),
    ],
)
def test_what_cannot_be_kept_is_named(name, cells):
    assert parse_column(name, cells) is None
    kept, lost = parse_columns({"age": ["1"], name: cells})
    assert [column.name for column in kept] == ["age"]
    assert lost == (name,)


def test_at_most_a_hundred_columns_are_kept():
    kept, lost = parse_columns({f"c{number}": ["1"] for number in range(MAX_COLUMNS + 2)})
    assert (len(kept), lost) == (MAX_COLUMNS, ("c100", "c101"))
