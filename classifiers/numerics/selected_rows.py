"""Lazy selection of feature rows, read one block at a time."""

import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.errors import HeadError

_CHUNK_BYTES = 2**26  # size of the blocks in which rows are checked and predicted


def spans(n: int, dim: int) -> Iterator[slice]:
    """Yield slices of n rows of length dim, such that the float32 copy of a slice takes at most 64 MiB."""
    step = max(1, _CHUNK_BYTES // (4 * dim))
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


def as_floats(part: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    """Convert features to float32; float64 features stay float64.

    Args:
        part: (n, d) features.
        rows: (n,) row numbers for error messages.

    Raises:
        HeadError: The features are not floats, or not finite.
    """
    if not np.issubdtype(part.dtype, np.floating):
        raise HeadError(f"features: got {part.dtype}, expected floats")
    floats = np.asarray(part, np.float64 if part.dtype == np.float64 else np.float32)
    bad = np.flatnonzero(~np.isfinite(floats).all(axis=1))
    if bad.size:
        raise HeadError(
            f"features of row {rows[bad[0]]} (and {bad.size - 1} more) are not finite; "
            "drop the rows of unreadable images, or extract again in a wider number format"
        )
    return floats


class SelectedRows:
    """Lazy selection of rows of a matrix, in any order. A row is copied only when it is read.

    Args:
        source: (N, d) floats: a memory map, or an object that returns selected rows as an array.
        index: (n,) int64 row indices into the source.
    """

    ndim = 2

    def __init__(self, source: Any, index: NDArray[np.int64]) -> None:
        self.source, self.index = source, index
        self.shape = (len(index), int(source.shape[1]))
        self.dtype = np.dtype(source.dtype)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, part: Any) -> NDArray[Any]:
        """Return a (k, d) copy of the rows at a slice or at positions."""
        rows: NDArray[Any] = self.source[self.index[part]]
        return rows

    def select(self, positions: NDArray[Any]) -> "SelectedRows":
        """Select some of these rows by position or by a mask, without reading them."""
        return SelectedRows(self.source, self.index[positions])

    def check(self) -> None:
        """Read all rows once, and validate them.

        Raises:
            HeadError: The rows are not floats, or not finite. The message contains the row number in the source.
        """
        for part in spans(*self.shape):
            as_floats(self[part], self.index[part])
            release(self)

    def copy(self) -> NDArray[Any]:
        """Return a validated copy of the rows in memory, as float32 or wider."""
        taken = np.empty(self.shape, self.wide_dtype)
        self.copy_to(taken)
        return taken

    def copy_to(self, taken: NDArray[Any]) -> None:
        """Copy the validated rows into an existing (n, d) array."""
        for part in spans(*self.shape):
            taken[part] = as_floats(self[part], self.index[part])
            release(self)

    @property
    def wide_dtype(self) -> np.dtype[Any]:
        """Number format of a copy of the rows."""
        return np.dtype(np.float64 if self.dtype == np.float64 else np.float32)


def release(X: Any) -> None:
    """Release the pages of a memory map from the memory of this process; they stay in the cache of the system."""
    base: Any = X.source if isinstance(X, SelectedRows) else X
    read_only = isinstance(base, np.ndarray) and not base.flags.writeable
    while base is not None and not isinstance(base, mmap.mmap):
        base = getattr(base, "base", getattr(base, "obj", None))
    if base is not None and read_only and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)
