"""Tables of a run, written as CSV."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from frostline.csv_cells import CsvWriter
from frostline.system.atomic import write_text_file


def write_table(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows as CSV; the columns are the keys of the first row."""
    with write_text_file(path) as file:
        columns = list(rows[0])
        CsvWriter(file, columns).write_all([row[name] for name in columns] for row in rows)
