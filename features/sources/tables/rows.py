"""Rows of Parquet and Arrow files as images and what is said of them."""

import errno
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow
from pyarrow import types

from frostline.errors import one_line
from frostline.features.errors import SourceError
from frostline.features.sources.containers.container import Container
from frostline.features.sources.manifests.columns import NOTE_ROLES, find_columns
from frostline.features.sources.manifests.parquet import plain_columns, with_shortest_floats
from frostline.features.sources.manifests.sheet import Sheet, cell_text, place, side_cells, side_names
from frostline.features.sources.numbering import numbered
from frostline.features.sources.stats import file_stat
from frostline.features.sources.tables.batches import ERRORS, Cursor, TableFile, open_table
from frostline.features.sources.tables.image_column import cell_bytes, find_image_column

_UNKNOWN_SIZE: Final = 0  # of an image that is not read yet


@dataclass(frozen=True, eq=False)
class ImageRows(Container):
    """Images in a column of a table. The id of an image is the number of its row.

    The sizes of the images are not known before they are read, and are 0.

    Attributes:
        table: The file.
        column: Name of the column of images.
        cursor: The images.
    """

    table: TableFile
    column: str
    cursor: Cursor

    def reopened(self) -> "ImageRows":
        """Return the table as it is now."""
        return open_rows(self.path, self.column)

    def close(self) -> None:
        """Close the file; see `Container.close`."""
        self.cursor.close()

    def _read(self, fd: int, index: int) -> bytes:  # noqa: ARG002  # the cursor opens the file itself
        try:
            data = cell_bytes(self.cursor.cell(index))
        except ERRORS as error:
            raise OSError(
                errno.EIO, f"the table is damaged: {one_line(error)}", self.location(index)
            ) from None
        if data is None:
            raise OSError(errno.ENOENT, "the row holds no bytes of an image", self.location(index))
        return data


def open_rows(path: str, column: str | None = None) -> ImageRows:
    """Open a table of images.

    Args:
        path: Path of the file.
        column: Name of the column of images; None to find it.

    Raises:
        OSError: The file can't be read.
        SourceError: The file is damaged, or has no column of images.
    """
    stat = file_stat(path)
    table = open_table(path)
    column = find_image_column(table.schema, column, f"{path}, its schema")
    sizes = [_UNKNOWN_SIZE] * table.count
    return ImageRows(path, stat, numbered(table.count), sizes, (), table, column, Cursor(table, column))


def read_notes(rows: ImageRows, chosen: Mapping[str, str | None]) -> Sheet:
    """Return what the other columns say of the images.

    Numbers of classes are replaced by their names if the schema tells these, as in data sets of Hugging Face.

    Args:
        rows: The images.
        chosen: Column by role; see `columns.find_columns`.

    Raises:
        SourceError: A column is missing, or holds lists or structs.
    """
    schema = rows.table.schema
    header = [name for name in schema.names if name != rows.column]
    taken = find_columns(header, chosen, f"{rows.path}, its schema", NOTE_ROLES)
    names = [header[index] for index in taken.values()]
    for name in names:
        if types.is_nested(schema.field(name).type):
            raise SourceError(
                f"{rows.path}, its schema: the column {name!r} holds {str(schema.field(name).type)[:80]}; expected one"
                " text or number per row"
            )
    try:
        side = plain_columns(schema, side_names(header, taken.values()))
        names += side
        table = with_shortest_floats(rows.table.columns(names))
        if names and table.num_rows != rows.table.count:
            raise ValueError(f"it holds {table.num_rows:,} rows and says {rows.table.count:,}")
    except ERRORS as error:
        raise SourceError(f"{rows.path}: not a readable table: {one_line(error)}. Restore it") from error
    columns = {role: _texts(rows, table, header[index], role) for role, index in taken.items()}
    others = {name: _side(rows, table, name) for name in side}
    return Sheet(rows.path, header, taken, columns, range(1, rows.table.count + 1), "row", others)


def _side(rows: ImageRows, table: pyarrow.Table, column: str) -> list[str]:
    """Return the cells of a side column as text."""
    if names := _class_names(rows.table.schema, column):
        return [
            names[value] if isinstance(value, int) and 0 <= value < len(names) else ""
            for value in table[column].to_pylist()
        ]
    return side_cells(table[column].to_pylist())


def _texts(rows: ImageRows, table: pyarrow.Table, column: str, role: str) -> list[str]:
    """Return the cells of a column as text."""
    names = _class_names(rows.table.schema, column)
    return [
        _text(value, names, place(rows.path, "row", row, column), role)
        for row, value in enumerate(table[column].to_pylist(), 1)
    ]


def _text(value: Any, names: list[str], where: str, role: str) -> str:
    if names and isinstance(value, int):
        if not -1 <= value < len(names):
            raise SourceError(
                f"{where}: got class {value}, expected -1 or one of the {len(names)} that the schema names"
            )
        return names[value] if value >= 0 else ""
    return cell_text(value, where, whole=role != "label")


def _class_names(schema: pyarrow.Schema, column: str) -> list[str]:
    """Return the names of the classes that the metadata of a data set of Hugging Face tells; empty for none."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[column]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return []
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else []
