"""Tables of a run, written as CSV."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from frostline.csv_cells import CsvWriter
from frostline.system.atomic import write_text_file


def write_table(rows: Sequence[Mapping[str, Any]], path: Path, columns: Sequence[str] | None = None) -> None:
    """Write rows as CSV; without rows, the heading alone.

    Args:
        rows: Cells of each row by column.
        path: File to write.
        columns: Names of the columns; None for the keys of the first row, of which there must be one.
    """
    columns = list(rows[0]) if columns is None else columns
    with write_text_file(path) as file:
        CsvWriter(file, columns).write_all([row[name] for name in columns] for row in rows)
