"""A cache file, complete or not, as read-only arrays that lie in the file."""

import mmap
import os
import weakref
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import xxhash
from numpy.typing import NDArray

from frostline.features.cache.file.layout import TABLE, Array, Layout, as_bytes, columns, table_digest
from frostline.features.cache.file.trust import read_layout
from frostline.features.errors import CacheFormatError, ChecksumError
from frostline.features.system.files import map_privately
from frostline.features.table import FAILED, OK, ImageTable
from frostline.splits import SPLITS


def checksum(*parts: memoryview | bytes) -> int:
    """XXH3 with 64 bits over the bytes of `parts`, one after the other; never 0, which means not committed."""
    state = xxhash.xxh3_64()
    for part in parts:
        state.update(part)
    return state.intdigest() or 1


class MappedFile:
    """The arrays of a cache file, in place, and what its checksums say of them.

    Attributes:
        path: Where it is.
        layout: Its header.
        table: Its images; a view of the file except for the classes.
    """

    def __init__(self, path: Path, layout: Layout, fd: int) -> None:
        self.path, self.layout, self._fd = path, layout, fd
        self._close_fd = weakref.finalize(self, os.close, fd)
        self._memory = mmap.mmap(fd, layout.size, access=mmap.ACCESS_READ)
        self._columns = columns(layout.spec)
        self._verdicts = np.zeros(
            (layout.blocks, len(self._columns)), np.int8
        )  # 1 valid, -1 not, 0 not looked at
        self.table = self._table()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Map a file after looking it over.

        Raises:
            OSError: It can't be read.
            CacheFormatError: It can't be trusted.
            ChecksumError: What it says of its images is not what was written.
        """
        with path.open("rb") as file:
            return cls(path, read_layout(file, path), os.dup(file.fileno()))

    def close(self) -> None:
        """Let go of the file, for good; arrays of it that are in use keep their memory until they are gone.

        Windows neither replaces nor deletes nor shortens a file that is mapped.
        """
        self._close_fd()
        for name in ("table", "_memory", "_private_memory"):
            self.__dict__.pop(name, None)

    def array(self, name: str) -> Array:
        """A dataset, in place and read-only."""
        return self._view(self._memory, name)

    @property
    def stamps(self) -> NDArray[np.uint8]:
        """(n, 16) uint8 stamps of the images, in place and read-only."""
        return self.array("stat").view(np.uint8)

    def private_array(self, name: str) -> Array:
        """A dataset, in place and writable; a write changes a page of this process, never the file."""
        return self._view(self._private_memory, name)

    def _view(self, memory: mmap.mmap, name: str) -> Array:
        extent = self.layout.extents[name]
        count = extent.nbytes // extent.dtype.itemsize
        return np.frombuffer(memory, extent.dtype, count, extent.offset).reshape(extent.shape)

    @cached_property
    def _private_memory(self) -> mmap.mmap:
        return map_privately(self._fd, self.layout.size)

    def committed(self) -> NDArray[np.bool_]:
        """(blocks,) bool: those whose every checksum has been written."""
        done: NDArray[np.bool_] = (self.array("blocks") != 0).all(axis=1)
        return done

    def check(self, column: int, blocks: NDArray[np.int64] | None = None) -> NDArray[np.bool_]:
        """Whether blocks hold what was written to them; each is read once in the life of this object.

        Args:
            column: Index into ``/blocks``: a layer, or -1 for the metadata.
            blocks: (k,) those to look at, or None for all.

        Returns:
            (k,) bool.
        """
        verdicts = self._verdicts[:, column]
        wanted = np.arange(self.layout.blocks) if blocks is None else blocks
        new = np.unique(wanted[verdicts[wanted] == 0])
        verdicts[new] = np.where(self.recheck(column, new), 1, -1)
        valid: NDArray[np.bool_] = verdicts[wanted] == 1
        return valid

    def recheck(self, column: int, blocks: NDArray[np.int64]) -> NDArray[np.bool_]:
        """As `check`, but always from the file."""
        rows, stored = self.layout.block_rows, self.array("blocks")[:, column]
        arrays = [self.array(name) for name in self._columns[column]]
        return np.array(
            [
                stored[block]
                == checksum(*(as_bytes(array[block * rows : (block + 1) * rows]) for array in arrays))
                for block in blocks.tolist()
            ],
            bool,
        )

    def valid_blocks(self) -> NDArray[np.bool_]:
        """(blocks,) bool: those whose every checksum has been written and is true."""
        valid = self.committed()
        for column in range(len(self._columns)):
            valid[valid] = self.check(column, np.flatnonzero(valid))
        return valid

    def check_rows(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(k,) bool: whether all that is stored of each of `rows` is what was written."""
        blocks, inverse = np.unique(rows // self.layout.block_rows, return_inverse=True)
        valid = np.ones(len(blocks), bool)
        for column in range(len(self._columns)):
            valid &= self.check(column, blocks)
        return valid[inverse]

    def rows_of(self, blocks: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(rows,) bool from (blocks,) bool."""
        return np.repeat(blocks, self.layout.block_rows)[: self.layout.rows]

    def known(self) -> NDArray[np.bool_]:
        """(rows,) bool: those whose outcome follows from the content of an image that was read."""
        blocks = self.committed()
        blocks[blocks] = self.check(-1, np.flatnonzero(blocks))
        status, content = self.array("status"), self.array("content")
        decided: NDArray[np.bool_] = (status == OK) | ((status == FAILED) & content.any(axis=1))
        return self.rows_of(blocks) & decided

    def table_is_intact(self) -> bool:
        """Whether what the file says of its images is what was written."""
        return table_digest({name: self.array(name) for name in TABLE}) == self.layout.table_digest

    def _table(self) -> ImageTable:
        if not self.table_is_intact():
            raise ChecksumError(
                f"{self.path}: the ids, labels, splits, groups or classes are not those that were written; "
                "delete the file and extract again"
            )
        classes = tuple(name.decode() for name in self.array("classes").tolist())
        labels, split = self.array("labels"), self.array("split")
        if labels.min() < -1 or labels.max() >= len(classes) or split.max() >= len(SPLITS):
            raise CacheFormatError(
                f"{self.path}: has labels or splits beyond its {len(classes)} classes and {SPLITS}"
            )
        return ImageTable(self.array("ids"), labels, classes, split, self.array("groups"), self.stamps)
