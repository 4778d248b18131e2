"""Columns of a table of images as text, and what they say of the images."""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from frostline.features.columns import Column, parse_columns
from frostline.features.errors import SourceError
from frostline.features.notes import SourceNotes
from frostline.features.sources.labels import composed, plain_numbers
from frostline.features.sources.split_names import SPLIT_CODES
from frostline.splits import Split


@dataclass(frozen=True)
class Sheet:
    """Columns of a table as text, with the position of each row in the file.

    Attributes:
        file: Path of the table, for messages.
        header: Names of all columns.
        taken: Index in `header` of the column of each role that the table has, see `columns.find_columns`.
        columns: Cells by role, for the roles of `taken`.
        side: Cells by name, for other columns that hold one number or text per row.
        lines: Position of each row in the file.
        unit: Unit of `lines`, such as ``line`` or ``row``.
    """

    file: str
    header: Sequence[str]
    taken: Mapping[str, int]
    columns: Mapping[str, Sequence[str]]
    lines: Sequence[int]
    unit: str
    side: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def at(self, row: int, role: str = "") -> str:
        """Return the place of a row, and of its cell in the column of a role, for messages."""
        return place(self.file, self.unit, self.lines[row], self.header[self.taken[role]] if role else "")

    def labels(self) -> tuple[list[str], list[str]]:
        """Return the label of each row, empty for unknown, and remarks on those that are not exactly as written."""
        cells = self._column("label")
        stripped = [cell.strip() for cell in cells]
        blanks = sum(cell != label for cell, label in zip(cells, stripped, strict=True))
        labels, remarks = composed(plain_numbers(stripped))
        return labels, [
            *remarks,
            *([f"{blanks} label(s) had surrounding blanks, which are dropped"] * (blanks > 0)),
        ]

    def splits(self) -> list[Split]:
        """Return the split of each row.

        Raises:
            SourceError: A cell is not the name of a split.
        """
        codes = []
        for row, cell in enumerate(self._column("split")):
            name = cell.strip().lower()
            if name and name not in SPLIT_CODES:
                raise SourceError(
                    f"{self.at(row, 'split')}: got {cell!r}; expected {', '.join(SPLIT_CODES)}, or nothing"
                )
            codes.append(SPLIT_CODES.get(name, Split.NONE))
        return codes

    def groups(self) -> list[str]:
        """Return the group of each row, empty for none."""
        return [group.strip() for group in self._column("group")]

    @cached_property
    def side_columns(self) -> tuple[Column, ...]:
        """The side columns that are kept: see `parse_columns`."""
        return parse_columns(self.side)[0]

    def notes(self, remarks: Sequence[str]) -> SourceNotes:
        """Return which columns were taken for what, and which are not kept, with remarks."""
        used = {role: self.header[index] for role, index in self.taken.items()}
        kept = {column.name for column in self.side_columns}
        unused = tuple(
            name
            for index, name in enumerate(self.header)
            if index not in self.taken.values() and name not in kept
        )
        return SourceNotes(columns=used, unused_columns=unused, remarks=tuple(remarks))

    def _column(self, role: str) -> Sequence[str]:
        return self.columns.get(role) or [""] * len(self.lines)


def side_names(header: Sequence[str], taken: Collection[int]) -> dict[str, int]:
    """Return the index of each column that has no role and a name of its own."""
    counts = Counter(header)
    return {
        name: index
        for index, name in enumerate(header)
        if index not in taken and name.strip() and counts[name] == 1
    }


def place(file: str, unit: str, line: int, column: str = "") -> str:
    """Return the place of a row or cell, for messages."""
    return f"{file}, {unit} {line}" + (f", column {column!r}" if column else "")


def side_cells(values: Iterable[Any]) -> list[str]:
    """Return the cells of a side column of a typed table as text; those that are no number or text are empty."""
    return [
        "" if isinstance(value, bytes | dict | list) else cell_text(value, "", whole=True) for value in values
    ]


def cell_text(value: Any, where: str, *, whole: bool) -> str:
    """Return a cell of a typed table as the text that it would have in a CSV file.

    Args:
        value: The cell.
        where: Place named in error messages.
        whole: Whether whole floats lose the ``.0`` that pandas adds next to missing values.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise SourceError(f"{where}: bytes that are not UTF-8 text; got {value[:20]!r}") from error
    if whole and isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
