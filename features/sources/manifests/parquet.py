"""Manifests as Parquet files."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from frostline.errors import one_line
from frostline.features.columns import shortest_floats
from frostline.features.errors import SourceError
from frostline.features.sources.manifests.columns import find_columns
from frostline.features.sources.manifests.sheet import Sheet, cell_text, place, side_cells, side_names
from frostline.system.files import check_regular

_SHOWN = 80  # characters of the type of a column


def read_parquet(file: str, chosen: Mapping[str, str | None]) -> Sheet:
    """Read the columns of a Parquet file.

    Args:
        file: Path of the file.
        chosen: Column by role; see `columns.find_columns`.

    Raises:
        OSError: The file can't be read.
        SourceError: The file is not such a table, lacks a column, or needs a package that is not installed.
    """
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise SourceError(
            f"{file}: reading Parquet needs pyarrow; install it with: pip install 'frostline[parquet]'"
        ) from error
    check_regular(file)
    try:
        with parquet.ParquetFile(file) as opened:
            header = opened.schema_arrow.names
            wanted = find_columns(header, chosen, f"{file}, its schema")
            _check_types(opened.schema_arrow, wanted, file)
            side = plain_columns(opened.schema_arrow, side_names(header, wanted.values()))
            names = [*(header[index] for index in wanted.values()), *side]
            table = with_shortest_floats(opened.read(columns=names))
            cells = {name: table[name].to_pylist() for name in names}
    except SourceError:
        raise
    except (OSError, ValueError) as error:  # pyarrow raises both
        raise SourceError(
            f"{file}: not a readable Parquet file: {one_line(error)}. Restore it, if it is not complete"
        ) from error
    _check_paths(cells[header[wanted["path"]]], f"{file}, column {header[wanted['path']]!r}")
    columns = {
        role: [
            cell_text(value, place(file, "row", row, header[index]), whole=role != "label")
            for row, value in enumerate(cells[header[index]], 1)
        ]
        for role, index in wanted.items()
    }
    others = {name: side_cells(cells[name]) for name in side}
    return Sheet(file, header, wanted, columns, range(1, table.num_rows + 1), "row", others)


def _check_paths(cells: Sequence[Any], where: str) -> None:
    """Raise `SourceError` for a column of paths that holds images."""
    first = next((cell for cell in cells if cell is not None), b"")
    if isinstance(first, bytes) and (b"\0" in first or not _is_text(first)):
        raise SourceError(
            f"{where}: got bytes that are no path, {first[:8]!r}. Images in a Parquet file are read from a column with a name"
            " such as image, photo or png: rename the column"
        )


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _check_types(schema: Any, wanted: Mapping[str, int], file: str) -> None:
    """Raise `SourceError` for columns of lists and structs."""
    from pyarrow import types

    for role, index in wanted.items():
        column = schema.field(index)
        if types.is_nested(column.type):
            raise SourceError(
                f"{file}, its schema: the column {column.name!r} holds {str(column.type)[:_SHOWN]}; expected one text or"
                f" number per row as {role}. Write images that lie in the table to files, and a list to one column"
            )


def plain_columns(schema: Any, names: Iterable[str]) -> list[str]:
    """Return those of some columns that hold numbers, truth values, texts, dates or times."""
    from pyarrow import types

    def is_plain(kind: Any) -> bool:
        kind = kind.value_type if types.is_dictionary(kind) else kind
        return bool(
            types.is_primitive(kind)
            or types.is_decimal(kind)
            or types.is_string(kind)
            or types.is_large_string(kind)
        )

    return [name for name in names if is_plain(schema.field(name).type)]


def with_shortest_floats(table: Any) -> Any:
    """Return a table without floats of fewer bits than 64; see `shortest_floats`."""
    import pyarrow

    for index, column in enumerate(table.schema):
        if pyarrow.types.is_floating(column.type) and not pyarrow.types.is_float64(column.type):
            values = shortest_floats(table[index].to_numpy())
            table = table.set_column(index, column.name, pyarrow.array(values, pyarrow.float64()))
    return table
