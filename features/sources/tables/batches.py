"""Batches of rows of Parquet and Arrow files, read in order."""

import errno
import itertools
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import pyarrow
from pyarrow import ipc, parquet

from frostline.errors import one_line
from frostline.features.errors import SourceError
from frostline.system.files import open_regular

_BATCH_BYTES: Final = 16 << 20
_KEPT_BYTES: Final = 256 << 20  # of the last batches, in which threads find rows that were read out of order
_KEPT: Final = 4  # parts, however large
_MOST: Final = 100_000_000  # rows
_ARROW_FILE: Final = b"ARROW1"  # the first bytes of the file format
_SKIPPED: Final = 10_000  # rows to read over rather than to begin anew

ERRORS: Final = (OSError, ValueError, KeyError, MemoryError, pyarrow.ArrowException)
"""Exceptions that pyarrow raises for damaged files."""


@dataclass(frozen=True)
class TableFile(ABC):
    """Parquet or Arrow file. Objects are picklable.

    Attributes:
        path: Path of the file.
        schema: Schema of the file.
        count: Number of rows.
    """

    path: str
    schema: pyarrow.Schema
    count: int

    @abstractmethod
    def batches(self, column: str, row: int) -> Iterator[tuple[int, pyarrow.Array]]:
        """Yield the parts of a column with the number of their first row, starting at or before a row."""

    @abstractmethod
    def columns(self, names: Sequence[str]) -> pyarrow.Table:
        """Return some columns."""


@dataclass(frozen=True)
class ParquetTable(TableFile):
    """Parquet file.

    Attributes:
        groups: Number of the first row of each row group.
        row_bytes: Mean size of a row in bytes.
    """

    groups: tuple[int, ...]
    row_bytes: int

    def batches(self, column: str, row: int) -> Iterator[tuple[int, pyarrow.Array]]:
        """Yield the parts of a column; see `TableFile.batches`."""
        first = max(index for index, start in enumerate(self.groups) if start <= row)
        start, size = self.groups[first], max(1, min(256, _BATCH_BYTES // max(1, self.row_bytes)))
        with _opened(self.path) as stream, parquet.ParquetFile(stream) as file:
            # Each row group is read by itself, so that a damaged one costs only its rows.
            for group in range(first, len(self.groups)):
                for batch in file.iter_batches(size, [group], [column]):
                    yield start, batch.column(0)
                    start += batch.num_rows

    def columns(self, names: Sequence[str]) -> pyarrow.Table:
        """Return some columns."""
        with _opened(self.path) as stream, parquet.ParquetFile(stream) as file:
            return file.read(list(names))


class ArrowTable(TableFile):
    """Arrow file, in the file format or in that of streams."""

    def batches(self, column: str, row: int) -> Iterator[tuple[int, pyarrow.Array]]:  # noqa: ARG002
        """Yield the parts of a column; see `TableFile.batches`."""
        start = 0
        for batch in record_batches(self.path):
            yield start, batch.column(column)
            start += batch.num_rows

    def columns(self, names: Sequence[str]) -> pyarrow.Table:
        """Return some columns."""
        schema = pyarrow.schema([self.schema.field(name) for name in names])
        return pyarrow.Table.from_batches(
            [batch.select(names) for batch in record_batches(self.path)], schema
        )


def record_batches(path: str) -> Iterator[pyarrow.RecordBatch]:
    """Yield the batches of an Arrow file."""
    with _opened(path) as stream:
        for batch in _arrow_reader(stream)[1]:
            batch.validate(full=True)  # offsets outside their buffer would be followed
            yield batch


def _arrow_reader(stream: BinaryIO) -> tuple[pyarrow.Schema, Iterator[pyarrow.RecordBatch]]:
    """Return the schema and the batches of a file in either Arrow format."""
    is_file = stream.read(len(_ARROW_FILE)) == _ARROW_FILE
    stream.seek(0)
    if not is_file:
        reader = ipc.open_stream(stream)
        return reader.schema, iter(reader)
    file = ipc.open_file(stream)
    return file.schema, (file.get_batch(index) for index in range(file.num_record_batches))


def open_table(path: str) -> TableFile:
    """Open a Parquet or Arrow file, without reading a row.

    Raises:
        OSError: The file can't be read.
        SourceError: The file is damaged.
    """
    try:
        table = _open_parquet(path) if path.lower().endswith(".parquet") else _open_arrow(path)
        table.schema.names  # noqa: B018  # raises an error for names that are not text
    except FileNotFoundError:
        raise
    except ERRORS as error:
        raise SourceError(
            f"{path}: not a readable table: {one_line(error)}. Restore it, if it is not complete"
        ) from error
    return table


def _open_parquet(path: str) -> ParquetTable:
    with _opened(path) as stream, parquet.ParquetFile(stream) as file:
        count = file.metadata.num_rows
        if count > _MOST:
            raise ValueError(f"it has {count:,} rows, expected at most {_MOST:,}")
        groups = [file.metadata.row_group(index) for index in range(file.num_row_groups)]
        starts = tuple(itertools.accumulate((group.num_rows for group in groups), initial=0))[:-1]
        size = sum(group.total_byte_size for group in groups)
        return ParquetTable(path, file.schema_arrow, count, starts, size // max(1, count))


def _open_arrow(path: str) -> ArrowTable:
    with _opened(path) as stream:
        schema, _ = _arrow_reader(stream)
    return ArrowTable(path, schema, sum(batch.num_rows for batch in record_batches(path)))


def _opened(path: str) -> BinaryIO:
    return open(open_regular(path), "rb")  # noqa: PTH123  # a descriptor


class Cursor:
    """Cells of a column, read in order: the last parts are kept, and an earlier row begins anew. Thread-safe.

    Args:
        table: The file.
        column: Name of the column.
    """

    def __init__(self, table: TableFile, column: str) -> None:
        self._table, self._column = table, column
        self._lock = threading.Lock()
        self._parts: Iterator[tuple[int, pyarrow.Array]] = iter(())
        self._kept: deque[tuple[int, pyarrow.Array]] = deque()

    def cell(self, row: int) -> Any:
        """Return a cell as a Python object.

        Raises:
            OSError: The file can't be read.
        """
        with self._lock:
            start, part = self._kept_part(row) or self._next_part(row)
        return part[row - start].as_py()

    def close(self) -> None:
        """Close the file. Another cell opens it again."""
        with self._lock:
            self._restart(iter(()))

    def _restart(self, parts: Iterator[tuple[int, pyarrow.Array]]) -> None:
        self._kept.clear()
        if isinstance(self._parts, Generator):
            self._parts.close()
        self._parts = parts

    def _kept_part(self, row: int) -> tuple[int, pyarrow.Array] | None:
        return next(((start, part) for start, part in self._kept if start <= row < start + len(part)), None)

    def _next_part(self, row: int) -> tuple[int, pyarrow.Array]:
        end = self._kept[-1][0] + len(self._kept[-1][1]) if self._kept else row + 1
        if not 0 <= row - end < _SKIPPED:
            self._restart(self._table.batches(self._column, row))
        try:
            for start, part in self._parts:
                self._kept.append((start, part))
                while len(self._kept) > _KEPT and sum(each.nbytes for _, each in self._kept) > _KEPT_BYTES:
                    self._kept.popleft()
                if start <= row < start + len(part):
                    return start, part
        except BaseException:
            self._restart(iter(()))  # so that rows after a damaged part are found
            raise
        self._restart(iter(()))
        raise OSError(errno.EIO, f"the table ends before row {row + 1}", self._table.path)

    def __reduce__(self) -> tuple[type["Cursor"], tuple[TableFile, str]]:
        """Return a way to make a new object, because the open file stays in its process."""
        return Cursor, (self._table, self._column)
