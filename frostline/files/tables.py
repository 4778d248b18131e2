"""CSV files of a folder, read as columns of texts."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from frostline.csv_cells import from_cell
from frostline.errors import FrostlineError
from frostline.files.checksums import read_listed


def read_table(
    folder: Path, name: str, *, raises: type[FrostlineError], remedy: str, limit: int
) -> Mapping[str, tuple[str, ...]]:
    """Return the cells of each column of a CSV file, by its heading.

    Args:
        folder: Folder of the file, whose digest is checked as `read_listed` does.
        name: Path of the file within the folder.
        raises: Class of the errors.
        remedy: Sentence that says what to do if the file can't be used.
        limit: Largest size in bytes.

    Raises:
        FileNotFoundError: The file does not exist.
        FrostlineError: The file can't be read, was changed, or is not a table; of the class `raises`.
    """
    data = read_listed(folder, name, raises=raises, remedy=remedy, limit=limit)
    try:
        return _columns(data)
    except (ValueError, csv.Error) as error:
        raise raises(f"{folder / name} can't be read: {error}. {remedy}") from error


def _columns(data: bytes) -> dict[str, tuple[str, ...]]:
    if b"\0" in data:
        raise ValueError("it has a null character")
    header, *lines = csv.reader(io.StringIO(data.decode() or "\n", newline=""), strict=True)
    for number, line in enumerate(lines, 2):
        if len(line) != len(header):
            raise ValueError(f"line {number} has {len(line)} cells, expected {len(header)}")
    columns = zip(*lines, strict=True) if lines else ((),) * len(header)
    return {
        from_cell(heading): tuple(map(from_cell, cells))
        for heading, cells in zip(header, columns, strict=True)
    }
