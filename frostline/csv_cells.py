"""Cells of CSV files: no text is a formula to a spreadsheet, and reading gives back the text that was written.

A text that begins with ``=``, ``+``, ``-``, ``@``, a tab or the end of a line is written with an apostrophe before it.
So is one that begins with apostrophes and then such a character. Reading takes this one apostrophe away. Other texts,
and all numbers, are written as they are. CSV that goes to another program, through a pipe, has all texts as they are.
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


def _as_it_is(value: Any) -> Any:
    return value


class _LineFeeds:
    """Receiver of lines from `csv.writer`, which end with a line feed in the file.

    Only a writer of lines that end with both characters quotes a cell that contains either.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, line: str) -> None:
        self._file.write(line.removesuffix("\r\n") + "\n")


class CsvWriter:
    """Writer of CSV lines that end with a line feed.

    Args:
        file: Text file to write to.
        columns: Names of the columns.
        for_spreadsheets: Whether to write texts so that no spreadsheet takes one for a formula.
    """

    def __init__(self, file: TextIO, columns: Sequence[str], *, for_spreadsheets: bool = True) -> None:
        self._writer = csv.writer(_LineFeeds(file))
        self._to_cell = to_cell if for_spreadsheets else _as_it_is
        self.write(columns)

    def write(self, row: Iterable[Any]) -> None:
        """Write one line."""
        self._writer.writerow([self._to_cell(value) for value in row])

    def write_all(self, rows: Iterable[Iterable[Any]]) -> None:
        """Write one line per row."""
        for row in rows:
            self.write(row)
