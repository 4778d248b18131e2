"""The list of images that a source holds and a cache is keyed by, row for row."""

import struct
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

OK, FAILED = 1, 2
"""Status of a row whose image was read, or could not be; 0 is a row that is still to come."""

STAMP_BYTES: Final = 16


def make_stamp(size: int, version: int) -> bytes:
    """Make the stamp of an image; see `ImageTable.stamps`.

    Args:
        size: Bytes of the image's file.
        version: 64 bits, signed, that change with the image where its size doesn't: the modification time of a file, or
            part of a digest of its bytes.
    """
    return struct.pack("<qq", size, version)


NO_STAMP: Final = make_stamp(-1, -1)
"""Stamp of an image that is missing."""


@dataclass(frozen=True, eq=False)
class ImageTable:
    """What a source lists before any image is read; rows are sorted by id, and ids are unique.

    Attributes:
        ids: (n,) UTF-8 byte strings: path relative to the source, with forward slashes.
        labels: (n,) int64 index into `classes`, -1 for unknown.
        classes: Names of the classes, sorted.
        split: (n,) uint8 codes of `Split`.
        groups: (n,) UTF-8 byte strings; rows of one group stay in one split; ``b""`` for no group.
        stamps: (n, 16) uint8 that tell, without reading an image, whether it is the one that it was: an id whose stamp
            is unchanged has an unchanged image. Made by `make_stamp`, and compared for equality only: all 16 bytes
            between images of one id, and the first 8 alone, the image's size, between images of different ids.
    """

    ids: NDArray[np.bytes_]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    split: NDArray[np.uint8]
    groups: NDArray[np.bytes_]
    stamps: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: NDArray[np.int64] | slice) -> "ImageTable":
        """Return the table of some rows; the classes stay those of all."""
        return replace(
            self,
            ids=self.ids[rows],
            labels=self.labels[rows],
            split=self.split[rows],
            groups=self.groups[rows],
            stamps=self.stamps[rows],
        )


class ImageSource(Protocol):
    """A set of images that can be listed at once and read one by one.

    A source gives `root`, `table` and `read`; the other methods have defaults for those that inherit from this class.
    It pickles if worker processes are to read from it.

    Attributes:
        root: Where the images are, as the user named it: an absolute path if they are files.
        table: The images, in the order of the cache's rows.
    """

    root: str
    table: ImageTable

    def read(self, row: int) -> tuple[bytes, bytes]:
        """Read one image's file. Safe to call from several threads.

        Args:
            row: Index into `table`.

        Returns:
            The bytes of the file, and the stamp that the image has now.

        Raises:
            OSError: The image is gone or can't be read.
        """
        ...

    def display_name(self, row: int) -> str:
        """Return what to call an image in front of the user; for a file its path."""
        return str(self.table.ids[row].decode())

    def unsettled(self, since: int) -> NDArray[np.bool_]:  # noqa: ARG002  # for those that override it
        """Tell which images can have changed since a time without a change of their stamp.

        Args:
            since: Nanoseconds since 1970.

        Returns:
            (n,) bool, all false by default.
        """
        return np.zeros(len(self.table), bool)

    def close(self) -> None:
        """Release what the source holds open. It can be called again, and does nothing by default."""
        return  # a method without a body would be abstract


class SourceRows(ImageSource):
    """Some rows of a source, as a source.

    Attributes:
        root: As the whole's.
        table: The images of these rows.
    """

    def __init__(self, source: ImageSource, rows: NDArray[np.int64] | slice) -> None:
        self.root, self.table = source.root, source.table.take(rows)
        self._source, self._rows = source, np.arange(len(source.table))[rows]

    def read(self, row: int) -> tuple[bytes, bytes]:
        """Read one image's file; see `ImageSource.read`."""
        return self._source.read(int(self._rows[row]))

    def display_name(self, row: int) -> str:
        """Return what to call an image; see `ImageSource.display_name`."""
        return self._source.display_name(int(self._rows[row]))

    def unsettled(self, since: int) -> NDArray[np.bool_]:
        """Tell which images can have changed; see `ImageSource.unsettled`."""
        return self._source.unsettled(since)[self._rows]

    def close(self) -> None:
        """Release what the whole holds open; see `ImageSource.close`."""
        self._source.close()
