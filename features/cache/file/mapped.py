"""Memory-mapped cache file, finished or unfinished, as read-only arrays."""

import mmap
import os
import weakref
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import xxhash
from numpy.typing import NDArray

from frostline.features.cache.file.layout import (
    COLUMN_NAMES,
    Array,
    Layout,
    as_bytes,
    side_names,
    table_digest,
)
from frostline.features.cache.file.trust import read_layout
from frostline.features.cache.imported.facts import remedy
from frostline.features.columns import Column
from frostline.features.errors import CacheFormatError, ChecksumError
from frostline.features.table import FAILED, OK, ImageTable
from frostline.splits import SPLITS
from frostline.system.files import map_privately, open_regular
from frostline.system.truncation import TruncatedError, check_size, watch


def checksum(*parts: memoryview | bytes) -> int:
    """Return the 64-bit XXH3 hash of the concatenated `parts`. It is never 0, which marks uncommitted blocks."""
    state = xxhash.xxh3_64()
    for part in parts:
        state.update(part)
    return state.intdigest() or 1


class MappedFile:
    """Memory-mapped arrays of a cache file, and the verification of their checksums.

    Attributes:
        path: Path of the file.
        layout: Header of the file.
        table: Images of the file. All arrays are views of the file; the classes are copied.
    """

    def __init__(self, path: Path, layout: Layout, fd: int) -> None:
        self.path, self.layout, self._fd = path, layout, fd
        self._close_fd = weakref.finalize(self, os.close, fd)
        self._memory = mmap.mmap(fd, layout.size, access=mmap.ACCESS_READ)
        watch(self._memory, path)
        self._columns = layout.columns
        self._verdicts = np.zeros(
            (layout.blocks, len(self._columns)), np.int8
        )  # 1 valid, -1 invalid, 0 unchecked
        self.table = self._table()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Validate the header of a file and map the file.

        Raises:
            OSError: The file can't be read.
            CacheFormatError: The file is not a valid cache.
            ChecksumError: The table of images is damaged.
        """
        with open(open_regular(path), "rb") as file:  # noqa: PTH123  # a descriptor
            return cls(path, read_layout(file, path), os.dup(file.fileno()))

    def close(self) -> None:
        """Close the file permanently. Arrays in use stay valid until they are deleted.

        Windows can't replace, delete or truncate a mapped file.
        """
        self._close_fd()
        for name in ("table", "_memory", "_private_memory"):
            self.__dict__.pop(name, None)

    def check_size(self) -> None:
        """Raise `ChecksumError` if another program has truncated the file, before some of it is read.

        Reading a page that was cut off ends the process; `frostline.system.truncation` explains it then.
        """
        try:
            check_size(self._memory, self.path)
        except TruncatedError as error:
            raise ChecksumError(error.strerror) from None

    def array(self, name: str) -> Array:
        """Return a dataset as a read-only view of the file."""
        return self._view(self._memory, name)

    @property
    def stamps(self) -> NDArray[np.uint8]:
        """(n, 16) uint8 stamps of the images, as a read-only view of the file."""
        return self.array("stat").view(np.uint8)

    def release(self) -> None:
        """Give the memory of what was read back to the system. Arrays stay valid, and are read again when used."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._memory.madvise(mmap.MADV_DONTNEED)

    def private_array(self, name: str) -> Array:
        """Return a dataset as a writable copy-on-write view. Writes never reach the file or other processes."""
        return self._view(self._private_memory, name)

    def _view(self, memory: mmap.mmap, name: str) -> Array:
        self.check_size()
        extent = self.layout.extents[name]
        count = extent.nbytes // extent.dtype.itemsize
        return np.frombuffer(memory, extent.dtype, count, extent.offset).reshape(extent.shape)

    @cached_property
    def _private_memory(self) -> mmap.mmap:
        memory = map_privately(self._fd, self.layout.size)
        watch(memory, self.path)
        return memory

    def committed(self) -> NDArray[np.bool_]:
        """Return a (blocks,) bool mask of the blocks whose checksums have all been written."""
        done: NDArray[np.bool_] = (self.array("blocks") != 0).all(axis=1)
        return done

    def check(self, column: int, blocks: NDArray[np.int64] | None = None) -> NDArray[np.bool_]:
        """Verify the checksums of blocks. Each block is read at most once per object.

        Raises `ChecksumError` if another program has truncated the file.

        Args:
            column: Column of ``/blocks``: the index of a layer, or -1 for the metadata.
            blocks: (k,) int64 blocks to check; None for all.

        Returns:
            (k,) bool, True for valid blocks.
        """
        verdicts = self._verdicts[:, column]
        wanted = np.arange(self.layout.blocks) if blocks is None else blocks
        new = np.unique(wanted[verdicts[wanted] == 0])
        verdicts[new] = np.where(self.recheck(column, new), 1, -1)
        valid: NDArray[np.bool_] = verdicts[wanted] == 1
        return valid

    def recheck(self, column: int, blocks: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Verify the checksums of blocks like `check`, but always read the file again."""
        rows, stored = self.layout.block_rows, self.array("blocks")[:, column]
        arrays = [self.array(name) for name in self._columns[column]]
        valid = np.zeros(len(blocks), bool)
        for index, block in enumerate(blocks.tolist()):
            self.check_size()
            parts = (as_bytes(array[block * rows : (block + 1) * rows]) for array in arrays)
            valid[index] = stored[block] == checksum(*parts)
        return valid

    def valid_blocks(self) -> NDArray[np.bool_]:
        """Return a (blocks,) bool mask of the committed blocks whose checksums are all correct."""
        valid = self.committed()
        for column in range(len(self._columns)):
            valid[valid] = self.check(column, np.flatnonzero(valid))
        return valid

    def check_rows(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return a (k,) bool mask of the `rows` whose blocks have only correct checksums."""
        blocks, inverse = np.unique(rows // self.layout.block_rows, return_inverse=True)
        valid = np.ones(len(blocks), bool)
        for column in range(len(self._columns)):
            valid &= self.check(column, blocks)
        return valid[inverse]

    def rows_of(self, blocks: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Expand a (blocks,) bool mask to a (rows,) bool mask."""
        return np.repeat(blocks, self.layout.block_rows)[: self.layout.rows]

    def known(self) -> NDArray[np.bool_]:
        """Return a (rows,) bool mask of the committed rows whose image was read, successfully decoded or not."""
        blocks = self.committed()
        blocks[blocks] = self.check(-1, np.flatnonzero(blocks))
        status, content = self.array("status"), self.array("content")
        decided: NDArray[np.bool_] = (status == OK) | ((status == FAILED) & content.any(axis=1))
        return self.rows_of(blocks) & decided

    def table_is_intact(self) -> bool:
        """Return whether the table of images matches its digest."""
        return (
            table_digest({name: self.array(name) for name in self.layout.table}) == self.layout.table_digest
        )

    def _table(self) -> ImageTable:
        if not self.table_is_intact():
            raise ChecksumError(
                f"{self.path}: the ids, labels, splits, groups, classes or side columns are damaged (their digest differs); "
                + remedy(self.layout.spec, "delete the file and extract again")
            )
        try:
            classes = tuple(name.decode() for name in self.array("classes").tolist())
        except UnicodeDecodeError as error:
            raise CacheFormatError(f"{self.path}: the name of a class is not UTF-8 ({error})") from None
        labels, split = self.array("labels"), self.array("split")
        if labels.min() < -1 or labels.max() >= len(classes) or split.max() >= len(SPLITS):
            raise CacheFormatError(
                f"{self.path}: labels or splits are out of range; expected {len(classes)} classes and splits {SPLITS}"
            )
        return ImageTable(
            self.array("ids"), labels, classes, split, self.array("groups"), self.stamps, self._side_columns()
        )

    def _side_columns(self) -> tuple[Column, ...]:
        if COLUMN_NAMES not in self.layout.extents:
            return ()
        arrays = [self.array(name) for name in side_names(self.layout.extents[COLUMN_NAMES].shape[0])]
        try:
            names = [name.decode() for name in arrays[0].tolist()]
        except UnicodeDecodeError as error:
            raise CacheFormatError(f"{self.path}: the name of a side column is not UTF-8 ({error})") from None
        if len({*names}) < len(names):
            raise CacheFormatError(f"{self.path}: two side columns have the same name; got {names}")
        return tuple(map(Column, names, arrays[1:]))
