"""Parquet and Arrow tables of vectors, copied block by block."""

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import pyarrow
from numpy.typing import NDArray
from pyarrow import compute, parquet, types

from frostline.errors import one_line
from frostline.features.cache.imported.vectors import rows_per_block
from frostline.features.errors import VectorsError
from frostline.features.sources.manifests.parquet import plain_columns, with_shortest_floats
from frostline.features.sources.tables.batches import ERRORS, open_table, record_batches
from frostline.pipeline.importing.columns import Plan, plan_columns
from frostline.pipeline.importing.importers import FoundVectors, Importer, Wanted
from frostline.pipeline.importing.named_arrays import read_description
from frostline.pipeline.importing.numpy_files import NO_ROOM, opened

_MOST_VALUES: Final = 1 << 28  # numbers in one row group or batch, which is read whole

Batches = Callable[[list[str]], Iterator[pyarrow.RecordBatch]]


def _read_parquet(wanted: Wanted) -> FoundVectors:
    stream = opened(wanted)
    open_table(wanted.path)

    def batches(names: list[str]) -> Iterator[pyarrow.RecordBatch]:
        stream.seek(0)
        with parquet.ParquetFile(stream, buffer_size=1 << 20, pre_buffer=False) as file:
            width = max(1, file.metadata.num_columns)
            for group in range(file.num_row_groups):
                rows = min(rows_per_block(width), 1024)
                yield from file.iter_batches(rows, [group], names)

    return _read(wanted, batches)


def _read_arrow(wanted: Wanted) -> FoundVectors:
    return _read(wanted, lambda names: (batch.select(names) for batch in record_batches(wanted.path)))


def _read(wanted: Wanted, batches: Batches) -> FoundVectors:
    table = open_table(wanted.path)
    try:
        told = (table.schema.metadata or {}).get(b"frostline", b"")
        description = read_description(told)
        lists = [each.name for each in table.schema if _is_list(each.type)]
        names = table.schema.names
        plain = plain_columns(table.schema, [name for name in names if names.count(name) == 1])
        plan = plan_columns(wanted, names, lists=lists, plain=plain, description=description)
        facts: dict[str, list[Any]] = {role: [] for role in plan.roles}
        side: dict[str, list[Any]] = {name: [] for name in plan.side}
        layers = wanted.scratch.copy_all(
            _blocks(wanted.path, batches, plan, facts, side), wanted.path, rows=table.count
        )
    except VectorsError:
        raise
    except ERRORS as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise
        raise VectorsError(f"{wanted.path}: not a readable table: {one_line(error)[:300]}") from error
    named = {plan.side[name]: values for name, values in side.items()}
    return FoundVectors(layers, facts, plan.roles, named, plan.unused, description)


def _is_list(kind: pyarrow.DataType) -> bool:
    nested = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return bool(nested and _is_number(kind.value_type))


def _is_number(kind: pyarrow.DataType) -> bool:
    return bool(types.is_floating(kind) or types.is_integer(kind) or types.is_boolean(kind))


def _blocks(
    path: str, batches: Batches, plan: Plan, facts: dict[str, list[Any]], side: dict[str, list[Any]]
) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield the vectors of each batch by key of the layer, and note what other columns tell."""
    numbers = [name for names in plan.numbers.values() for name in names]
    columns = list(dict.fromkeys([*plan.roles.values(), *plan.lists.values(), *numbers, *plan.side]))
    start, widths = 0, dict[str, int]()
    for batch in batches(columns):
        for role, name in plan.roles.items():
            facts[role] += _texts(path, name, batch.column(name))
        if side:
            beside = with_shortest_floats(pyarrow.Table.from_batches([batch.select([*side])]))
            for name, values in side.items():
                values.extend(beside[name].to_pylist())
        block = {}
        for key, name in plan.lists.items():
            column = batch.column(name)
            width = widths.setdefault(key, _width(path, name, column))
            block[key] = _vectors(path, name, column, width, start)
        for key, names in plan.numbers.items():
            block[key] = np.stack([_numbers(path, name, batch.column(name)) for name in names], axis=1)
        if len(batch):
            yield block
        start += len(batch)


def _texts(path: str, name: str, column: pyarrow.Array) -> list[Any]:
    kind = column.type.value_type if types.is_dictionary(column.type) else column.type
    if types.is_nested(kind):
        raise VectorsError(
            f"{path}: the column {name!r} holds {str(kind)[:80]}, expected one text or number per row"
        )
    return column.to_pylist()  # type: ignore[no-any-return]


def _width(path: str, name: str, column: pyarrow.Array) -> int:
    if types.is_fixed_size_list(column.type):
        return int(column.type.list_size)
    lengths = compute.list_value_length(column).drop_null()
    if not len(lengths):
        raise VectorsError(
            f"{path}: the first rows of the column {name!r} hold no vector, so their width is unknown"
        )
    return int(lengths[0].as_py())


def _vectors(path: str, name: str, column: pyarrow.Array, width: int, start: int) -> NDArray[Any]:
    """Return the lists of a column as (k, width) numbers; a missing list is a row of NaN."""
    if not types.is_fixed_size_list(column.type):
        lengths = compute.fill_null(compute.list_value_length(column), width).to_numpy(zero_copy_only=False)
        other = np.flatnonzero(lengths != width)
        if len(other):
            raise VectorsError(
                f"{path}, row {start + int(other[0]) + 1}, column {name!r}: got {lengths[other[0]]} numbers, expected {width} as"
                " in the first row"
            )
    if len(column) * width > _MOST_VALUES:
        raise VectorsError(
            f"{path}: a batch has {len(column):,} rows of {width:,} numbers; write it in smaller batches"
        )
    known = column.is_valid().to_numpy(zero_copy_only=False)
    flat = _to_numpy(column.flatten())
    if known.all():
        return flat.reshape(len(column), width)
    kind = flat.dtype if flat.dtype.kind == "f" else np.dtype(np.float64)
    whole = np.full((len(column), width), np.nan, kind)
    whole[known] = flat.reshape(-1, width)
    return whole


def _numbers(path: str, name: str, column: pyarrow.Array) -> NDArray[Any]:
    if not _is_number(column.type):
        raise VectorsError(f"{path}: the column {name!r} holds {str(column.type)[:80]}, expected numbers")
    return _to_numpy(column)


def _to_numpy(column: pyarrow.Array) -> NDArray[Any]:
    """Return numbers as an array; missing ones are NaN."""
    if types.is_boolean(column.type):
        column = column.cast(pyarrow.uint8())
    values: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return values


PARQUET = Importer("table of Parquet", (".parquet",), _read_parquet)
ARROW = Importer("table of Arrow", (".arrow", ".feather"), _read_arrow)
