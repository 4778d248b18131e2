"""Cells of CSV files: no text is a formula to a spreadsheet, and reading gives back the text that was written.

A text that begins with ``=``, ``+``, ``-``, ``@``, a tab or the end of a line is written with an apostrophe before it.
So is one that begins with apostrophes and then such a character. Reading takes this one apostrophe away. Other texts,
and all numbers, are written as they are.
"""

import csv
import re
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

_BEGINS_FORMULA = "[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]"  # with their full-width forms
_FORMULA = re.compile(f"'*{_BEGINS_FORMULA}")
_WRITTEN = re.compile(f"'+{_BEGINS_FORMULA}")


def to_cell(value: Any) -> Any:
    """Return a value to write: a text that a spreadsheet would take for a formula gets an apostrophe."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def from_cell(text: str) -> str:
    """Return the text that `to_cell` was given."""
    return text[1:] if _WRITTEN.match(text) else text


class CsvWriter:
    """Writer of CSV lines that end with a line feed.

    Args:
        file: Text file to write to.
        columns: Names of the columns.
    """

    def __init__(self, file: TextIO, columns: Sequence[str]) -> None:
        self._writer = csv.writer(file, lineterminator="\n")
        self.write(columns)

    def write(self, row: Iterable[Any]) -> None:
        """Write one line."""
        self._writer.writerow([to_cell(value) for value in row])

    def write_all(self, rows: Iterable[Iterable[Any]]) -> None:
        """Write one line per row."""
        for row in rows:
            self.write(row)
