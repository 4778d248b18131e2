"""The list of images that a source holds and a cache is keyed by, row for row."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

SPLITS = ("", "train", "val", "test")
"""Names of the splits; the index is the code that tables and caches store, 0 for none."""

OK, FAILED = 1, 2
"""Status of a row whose image was read, or could not be; 0 is a row that is still to come."""


@dataclass(frozen=True, eq=False)
class ImageTable:
    """What a source lists before any image is read; rows are sorted by id, and ids are unique.

    Attributes:
        ids: (n,) UTF-8 byte strings: path relative to the source, with forward slashes.
        labels: (n,) int64 index into `classes`, -1 for unknown.
        classes: Names of the classes, sorted.
        split: (n,) uint8 index into `SPLITS`.
        groups: (n,) UTF-8 byte strings; rows of one group stay in one split; ``b""`` for no group.
        stat: (n, 2) int64: size in bytes and modification time in nanoseconds.
    """

    ids: NDArray[np.bytes_]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    split: NDArray[np.uint8]
    groups: NDArray[np.bytes_]
    stat: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)


class ImageSource(Protocol):
    """A set of images that can be listed at once and read one by one.

    Attributes:
        root: What the user named, as an absolute path.
        table: The images, in the order of the cache's rows.
    """

    root: str
    table: ImageTable

    def read(self, row: int) -> tuple[bytes, tuple[int, int]]:
        """Read one image's file.

        Args:
            row: Index into `table`.

        Returns:
            The bytes, and the (size, mtime_ns) of the file that they were read from.

        Raises:
            OSError: The file is gone or can't be read.
        """
        ...
