"""Side columns: numbers and texts that a table holds about its images, beside labels, splits and groups."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

MAX_COLUMNS: Final = 100
"""Largest number of side columns of a table."""

MAX_TEXT_BYTES: Final = 256
"""Largest number of bytes of a text in a side column, and of its name."""

_NUMBER = re.compile(r"[+-]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_TRUTHS: Final = {"true": 1.0, "false": 0.0, "": np.nan}
_EXACT = 2**53  # beyond this, a float64 is not every integer
_EXACT_DIGITS = 17  # with the sign


@dataclass(frozen=True, eq=False)
class Column:
    """One number or text per image.

    Attributes:
        name: Name of the column.
        values: (n,) float64 numbers, NaN where the cell is empty; or (n,) UTF-8 byte strings, ``b""`` where it is.
    """

    name: str
    values: NDArray[Any]

    @property
    def is_numeric(self) -> bool:
        """Whether the values are numbers."""
        return self.values.dtype.kind == "f"

    @property
    def cells(self) -> NDArray[Any]:
        """(n,) float64, NaN for a missing number; or (n,) str, "" for a missing text."""
        return self.values if self.is_numeric else np.strings.decode(self.values, "utf-8")

    def take(self, rows: NDArray[np.int64] | slice) -> "Column":
        """Return the column of some rows."""
        return Column(self.name, self.values[rows])


def parse_column(name: str, cells: Sequence[str]) -> Column | None:
    """Return a column from its cells as text; None if it can't be kept.

    It is numeric if every cell that is not empty or ``nan`` is a finite decimal number without leading zeros (``007`` is
    a name), and an integer is at most 2**53, so that no number is changed. Cells of ``true`` and ``false`` are 1 and 0. All
    other columns are text, without surrounding blanks.

    Args:
        name: Name of the column.
        cells: Text of each cell, empty for a missing value.

    Returns:
        The column; None if its name or all cells are empty, or a text has more than `MAX_TEXT_BYTES` bytes.
    """
    if not name.strip() or len(name.encode(errors="replace")) > MAX_TEXT_BYTES:
        return None
    stripped = [cell.strip() for cell in cells]
    unique = {*stripped}
    if unique <= {""}:
        return None
    numbers = _numbers(unique)
    if numbers is not None:
        return Column(name, np.fromiter(map(numbers.__getitem__, stripped), np.float64, len(stripped)))
    try:
        encoded = {text: text.encode() for text in unique}
    except UnicodeEncodeError:
        return None
    if max(map(len, encoded.values())) > MAX_TEXT_BYTES or any("\0" in text for text in unique):
        return None
    return Column(name, np.array([encoded[text] for text in stripped], np.bytes_))


def shortest_floats(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return floats of fewer bits as the float64 of the same shortest text: 0.1, not 0.10000000149."""
    return np.fromiter((float(str(value)) for value in values), np.float64, len(values))


def parse_columns(cells: Mapping[str, Sequence[str]]) -> tuple[tuple[Column, ...], tuple[str, ...]]:
    """Return the side columns that can be kept, at most `MAX_COLUMNS`, and the names of the others."""
    parsed = {name: parse_column(name, values) for name, values in cells.items()}
    kept = [column for column in parsed.values() if column][:MAX_COLUMNS]
    names = {column.name for column in kept}
    return tuple(kept), tuple(name for name in cells if name not in names)


def _numbers(texts: set[str]) -> dict[str, float] | None:
    """Return the number of each text; None if one is no number, or all are empty."""
    if {text.lower() for text in texts} <= _TRUTHS.keys():
        return {text: _TRUTHS[text.lower()] for text in texts}
    found = {}
    for text in texts:
        if text.lower() in {"", "nan"}:
            found[text] = np.nan
        elif _NUMBER.fullmatch(text) and _is_kept(text):
            found[text] = float(text)
        else:
            return None
    return found


def _is_kept(text: str) -> bool:
    """Return whether a decimal number is finite as float64 and, if it is an integer, exact."""
    if text.lstrip("+-").isdigit():
        return len(text) <= _EXACT_DIGITS and abs(int(text)) <= _EXACT
    return bool(np.isfinite(float(text)))
