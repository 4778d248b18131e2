"""Background writing of rows, with checksums for each block after its data is on the disk."""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from frostline.features.cache.file.disk import write_at
from frostline.features.cache.file.layout import Array, Layout
from frostline.features.cache.file.mapped import checksum
from frostline.system.files import named, read_at, sync_data

_QUEUE = 8  # waiting submissions; bounds the memory and the number of submissions per sync
_READ_BYTES = 1 << 20  # bytes to read at once for the checksums of consecutive blocks


@dataclass(frozen=True, eq=False)
class EncodedRows:
    """Encoded rows of the file.

    Attributes:
        rows: (k,) int64, ascending.
        arrays: Arrays (k, ...) by name of dataset.
    """

    rows: NDArray[np.int64]
    arrays: dict[str, Array]

    def itself(self) -> "EncodedRows":
        """Return these rows, for use where a function that returns rows is expected."""
        return self


class Committer:
    """Background thread that writes rows into a file.

    A block is committed after all of its rows have been written: its data is synced to the disk, and then its
    checksums are written. Blocks that become complete at the same time share one sync.

    Args:
        fd: Descriptor of the file.
        path: Path of the file, for errors of the disk.
        layout: Layout of the file.
        committed: (blocks,) bool mask of the blocks that are already committed.
    """

    def __init__(self, fd: int, path: Path, layout: Layout, committed: NDArray[np.bool_]) -> None:
        self._fd, self._path, self._layout = fd, path, layout
        self._columns = layout.columns
        widest = max(layout.extents[name].stride for column in layout.columns for name in column)
        self._at_once = max(1, _READ_BYTES // (widest * layout.block_rows))
        ends = np.minimum((np.arange(layout.blocks) + 1) * layout.block_rows, layout.rows)
        self._missing = np.where(committed, 0, np.diff(ends, prepend=0))
        self.committed = committed.copy()
        self._error: BaseException | None = None
        self._queue: queue.Queue[Callable[[], EncodedRows] | None] = queue.Queue(_QUEUE)
        self._thread = threading.Thread(target=self._run, name="frostline-cache-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], EncodedRows]) -> None:
        """Queue a function that returns rows, to be called in the thread. Blocks while the queue is full.

        Raises:
            BaseException: The earlier error of the thread.
            RuntimeError: The thread was stopped.
        """
        self._reraise()
        if not self._thread.is_alive():
            raise RuntimeError("the cache writer is closed")
        self._queue.put(work)

    def flush(self) -> None:
        """Wait until all submitted rows are written and all complete blocks are committed.

        Raises:
            BaseException: The error of the thread.
        """
        self._queue.join()
        self._reraise()

    def stop(self) -> None:
        """Write the submitted rows and end the thread. Errors are kept for `flush`."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _reraise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        going = True
        while going:
            batch = [self._queue.get()]
            while len(batch) < _QUEUE and not self._queue.empty():
                batch.append(self._queue.get())
            going = None not in batch
            try:
                # After an error, the queue is still emptied, so that no caller waits forever.
                if self._error is None:
                    with named(self._path):
                        self._commit([work for work in batch if work is not None])
            except BaseException as error:  # noqa: BLE001  # raised again in the caller's thread
                self._error = error
            finally:
                for _ in batch:
                    self._queue.task_done()

    def _commit(self, batch: list[Callable[[], EncodedRows]]) -> None:
        whole = [self._write(work()) for work in batch]
        blocks = np.concatenate(whole) if whole else np.empty(0, np.int64)
        if len(blocks):
            sync_data(self._fd)
            for start, stop in _runs(blocks):
                for at in range(start, stop, self._at_once):
                    self._write_checksums(int(blocks[at]), min(self._at_once, stop - at))

    def _write(self, rows: EncodedRows) -> NDArray[np.int64]:
        """Write rows and return the blocks that they completed."""
        runs = _runs(rows.rows)
        for name, array in rows.arrays.items():
            extent = self._layout.extents[name]
            data = np.ascontiguousarray(array, extent.dtype)
            for start, stop in runs:
                write_at(self._fd, data[start:stop], extent.offset + int(rows.rows[start]) * extent.stride)
        blocks, counts = np.unique(rows.rows // self._layout.block_rows, return_counts=True)
        self._missing[blocks] -= counts
        whole: NDArray[np.int64] = blocks[self._missing[blocks] == 0]
        return whole

    def _write_checksums(self, block: int, count: int) -> None:
        """Write the checksums of `count` consecutive blocks."""
        sums = [self._checksums(column, block, count) for column in self._columns]
        extent = self._layout.extents["blocks"]
        write_at(self._fd, np.array(sums, extent.dtype).T.copy(), extent.offset + block * extent.stride)
        self.committed[block : block + count] = True

    def _checksums(self, column: tuple[str, ...], block: int, count: int) -> list[int]:
        read = [self._read(name, block, count) for name in column]
        strides = [self._layout.extents[name].stride * self._layout.block_rows for name in column]
        return [
            checksum(
                *(data[index * size : (index + 1) * size] for data, size in zip(read, strides, strict=True))
            )
            for index in range(count)
        ]

    def _read(self, name: str, block: int, count: int) -> memoryview:
        extent, rows = self._layout.extents[name], self._layout.block_rows
        first, end = block * rows, min((block + count) * rows, self._layout.rows)
        return memoryview(
            read_at(self._fd, (end - first) * extent.stride, extent.offset + first * extent.stride)
        )


def _runs(values: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return the (start, stop) of each run of consecutive values."""
    starts = np.flatnonzero(np.diff(values, prepend=-2) != 1)
    return list(pairwise([*starts.tolist(), len(values)]))
