"""Files beside the vectors that tell the ids, labels, splits or groups of their rows."""

import os
import warnings
from typing import Any, Final

import numpy as np
from numpy.lib import format as npy

from frostline.csv_cells import from_cell
from frostline.errors import one_line
from frostline.features.errors import SourceError, VectorsError
from frostline.features.sources.arrays.numpy_files import ERRORS, read_header
from frostline.features.sources.labels import plain_numbers
from frostline.features.sources.manifests.text import bounded_lines
from frostline.pipeline.importing.importers import OPTION_OF, side_path
from frostline.pipeline.importing.text_tables import csv_rows
from frostline.system.files import open_regular

_MAX_BYTES: Final = 1 << 31
_COLUMNS: Final = {"id": ("id", "path"), "classes": ("class", "name")}


def read_side_file(role: str, chosen: str) -> Any:
    """Return the values that a file tells for a role, in the order of the rows.

    Args:
        role: id, label, split, group or classes.
        chosen: Path of a ``.npy`` or ``.txt`` file; or of a ``.csv`` or ``.tsv`` file, and the name of a column after a
            colon if it is not that of the role.

    Raises:
        VectorsError: The file has another format, or lacks the column.
        OSError: The file can't be read.
    """
    path = os.fspath(side_path(chosen))
    column = chosen[len(path) + 1 :]
    suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122  # a text
    if suffix in {".csv", ".tsv"}:
        return _column(path, role, column)
    if column:
        raise VectorsError(
            f"--{OPTION_OF[role]}: {path} has no columns; a column is named in a .csv or .tsv file"
        )
    if suffix == ".npy":
        return _array(path, role)
    if suffix == ".txt":
        return _lines(path)
    raise VectorsError(f"--{OPTION_OF[role]}: {path}: expected a file ending in .txt, .npy, .csv or .tsv")


def _array(path: str, role: str) -> Any:
    with open(open_regular(path), "rb") as file:  # noqa: PTH123  # a descriptor
        shape, _, kind = read_header(file, path)
        size = int(np.prod(shape, dtype=object)) * kind.itemsize
        if len(shape) not in {1, 2} or kind.kind not in "iufbUS":
            raise VectorsError(
                f"--{OPTION_OF[role]}: {path}: got {kind.name}{shape}, expected one text or whole number per row"
            )
        if size > _MAX_BYTES or size > os.fstat(file.fileno()).st_size:
            raise VectorsError(f"--{OPTION_OF[role]}: {path}: claims {size:,} bytes; it is not complete")
        file.seek(0)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return npy.read_array(file, allow_pickle=False)
        except ERRORS as error:
            raise VectorsError(
                f"--{OPTION_OF[role]}: {path}: not a readable NumPy array: {one_line(error)}"
            ) from error


def _lines(path: str) -> list[str]:
    try:
        with open(open_regular(path), encoding="utf-8-sig") as stream:  # noqa: PTH123  # a descriptor
            return [line.rstrip("\n") for line in bounded_lines(stream, path)]
    except (UnicodeDecodeError, SourceError) as error:
        raise VectorsError(f"{path}: {error}; expected UTF-8 text with a line per row") from error


def _column(path: str, role: str, column: str) -> list[str]:
    names = (column,) if column else (*_COLUMNS.get(role, ()), role)
    values: list[str] = []
    name = ""
    try:
        for _, cells in csv_rows(path):
            if not name:
                found = [each for each in names if each in cells]
                if not found:
                    raise VectorsError(
                        f"--{OPTION_OF[role]}: {path} has no column {' or '.join(map(repr, names))}; it has"
                        f" {', '.join(map(repr, cells))}. Name one as {path}:COLUMN"
                    )
                name = found[0]
            values.append(from_cell(cells[name]))
    except SourceError as error:
        raise VectorsError(str(error)) from error
    return plain_numbers(values) if role == "label" else values
