"""Some rows of features that stay where they are until they are read, a block at a time."""

import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.errors import HeadError

_CHUNK_BYTES = 2**26  # rows are checked and predicted this much at a time


def spans(n: int, dim: int) -> Iterator[slice]:
    """Runs of n rows whose float32 copy takes bounded memory."""
    step = max(1, _CHUNK_BYTES // (4 * dim))
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


def as_floats(part: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    """Features as float32, or float64 where they are; `rows` are their numbers, for messages.

    Raises:
        HeadError: Not floats, or not finite.
    """
    if not np.issubdtype(part.dtype, np.floating):
        raise HeadError(f"features: got {part.dtype}, expected floats")
    floats = np.asarray(part, np.float64 if part.dtype == np.float64 else np.float32)
    bad = np.flatnonzero(~np.isfinite(floats).all(axis=1))
    if bad.size:
        raise HeadError(
            f"features of row {rows[bad[0]]} (and {bad.size - 1} more) are not finite; "
            "leave rows out whose image could not be read, or extract again in a wider number format"
        )
    return floats


class SelectedRows:
    """Some rows of a matrix, in an order of their own, none of which is copied before it is asked for.

    Args:
        source: (N, d) floats: a memory map, or what gives some of its rows as an array.
        index: (n,) int64 rows of it.
    """

    ndim = 2

    def __init__(self, source: Any, index: NDArray[np.int64]) -> None:
        self.source, self.index = source, index
        self.shape = (len(index), int(source.shape[1]))
        self.dtype = np.dtype(source.dtype)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, part: Any) -> NDArray[Any]:
        """A copy of some of the rows (k, d), by a slice or by their places."""
        rows: NDArray[Any] = self.source[self.index[part]]
        return rows

    def select(self, places: NDArray[Any]) -> "SelectedRows":
        """Some of these rows, by place or as a mask, without reading them."""
        return SelectedRows(self.source, self.index[places])

    def check(self) -> None:
        """Read all rows once.

        Raises:
            HeadError: Not floats, or not finite; the message gives the row's number in the source.
        """
        for part in spans(*self.shape):
            as_floats(self[part], self.index[part])
            release(self)

    def copy(self) -> NDArray[Any]:
        """The rows in memory, checked; in float32 where they came narrower."""
        taken = np.empty(self.shape, self.wide_dtype)
        self.copy_to(taken)
        return taken

    def copy_to(self, taken: NDArray[Any]) -> None:
        """The same, into memory (n, d) that is there."""
        for part in spans(*self.shape):
            taken[part] = as_floats(self[part], self.index[part])
            release(self)

    @property
    def wide_dtype(self) -> np.dtype[Any]:
        """Number format of a copy."""
        return np.dtype(np.float64 if self.dtype == np.float64 else np.float32)


def release(rows: Any) -> None:
    """Let go of the pages of a memory map: they stay in the system's cache, but not in this process's memory."""
    base: Any = rows.source if isinstance(rows, SelectedRows) else rows
    read_only = isinstance(base, np.ndarray) and not base.flags.writeable
    while base is not None and not isinstance(base, mmap.mmap):
        base = getattr(base, "base", getattr(base, "obj", None))
    if base is not None and read_only and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)
