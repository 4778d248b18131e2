"""Index of the images in a cache file, by content."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from frostline.features.cache.file.encoding import decode
from frostline.features.cache.file.layout import feature_name
from frostline.features.cache.file.mapped import MappedFile
from frostline.features.content import as_keys
from frostline.features.table import OK

_AT_ONCE = 4096  # rows copied at once, which bounds the memory


@dataclass(eq=False)
class IndexedFile:
    """Cache file, and the images that it has features of.

    Attributes:
        file: The file.
        keys: (k,) contents of the images, ascending.
        rows: (k,) int64 row of each.
        damaged: Whether some checksum that was looked at is wrong.
    """

    file: MappedFile
    keys: NDArray[np.bytes_]
    rows: NDArray[np.int64]
    damaged: bool

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a file. Rows of blocks with wrong checksums are left out.

        Raises:
            OSError: The file can't be read.
            CacheFormatError: The file is not a valid cache of this version.
            ChecksumError: The table of its images is damaged.
        """
        file = MappedFile.open(path)
        rows = np.flatnonzero(file.known() & (file.array("status") == OK))
        keys, first = np.unique(as_keys(file.array("content")[rows]), return_index=True)
        damaged = not file.check(-1, np.flatnonzero(file.committed())).all()
        return cls(file, keys, rows[first], damaged)

    def find(self, wanted: NDArray[np.bytes_]) -> NDArray[np.int64]:
        """Return the (k,) int64 row with each content, -1 for none."""
        if not len(self.keys):
            return np.full(len(wanted), -1)
        position = np.searchsorted(self.keys, wanted).clip(max=len(self.keys) - 1)
        return np.where(self.keys[position] == wanted, self.rows[position], -1)

    def copy(
        self, layer: str, rows: NDArray[np.int64], out: NDArray[np.float32], at: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Copy the features of rows, and leave out those whose checksums are wrong.

        Args:
            layer: Key of the layer.
            rows: (k,) int64 rows of the file.
            out: (n, dim) array that receives the features.
            at: (k,) int64 row of `out` for each.

        Returns:
            (k,) bool mask of the rows that were copied.

        Raises:
            ChecksumError: Another program has truncated the file.
        """
        copied = np.zeros(len(rows), bool)
        order = np.argsort(rows, kind="stable")
        for start in range(0, len(rows), _AT_ONCE):
            some = order[start : start + _AT_ONCE]
            valid = self.file.check_rows(rows[some])
            some = some[valid]
            stored = self.file.array(feature_name(layer))[rows[some], 0]
            out[at[some]] = decode(stored, self.file.layout.spec.dtype)
            copied[some] = True
        self.damaged |= not copied.all()
        return copied
