"""Image tables and sources. A cache has one row per row of its source's table."""

import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from frostline.features.columns import Column
from frostline.features.notes import NO_NOTES, SourceNotes

OK, FAILED = 1, 2
"""Status of a row: image read, or image unreadable. Status 0 marks a row that is still pending."""

STAMP_BYTES: Final = 16


def make_stamp(size: int, version: int) -> bytes:
    """Return the stamp of an image, 16 bytes; see `ImageTable.stamps`.

    Args:
        size: Size of the image file in bytes.
        version: Signed 64-bit number that changes whenever the image changes at the same size, such as part of a
            digest of its bytes, or of the times of its last changes.
    """
    return struct.pack("<qq", size, version)


NO_STAMP: Final = make_stamp(-1, -1)
"""Stamp of a missing image."""


@dataclass(frozen=True, eq=False)
class ImageTable:
    """Images of a source, listed before any image is read. Rows are sorted by id, and ids are unique.

    Attributes:
        ids: (n,) UTF-8 byte strings: path relative to the source, with forward slashes.
        labels: (n,) int64 index into `classes`, -1 for unknown.
        classes: Names of the classes, sorted.
        split: (n,) uint8 codes of `Split`.
        groups: (n,) UTF-8 byte strings, ``b""`` for no group. Rows of one group stay in one split.
        stamps: (n, 16) uint8 from `make_stamp`, to detect changed images without reading them. An id with an
            unchanged stamp has an unchanged image. Stamps are compared for equality only: all 16 bytes between
            images of the same id, and the first 8 bytes, the file size, between images of different ids.
        columns: Side columns, whose names are unique.
    """

    ids: NDArray[np.bytes_]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    split: NDArray[np.uint8]
    groups: NDArray[np.bytes_]
    stamps: NDArray[np.uint8]
    columns: tuple[Column, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: NDArray[np.int64] | slice) -> "ImageTable":
        """Return the table of some rows, with the classes of the whole table."""
        return replace(
            self,
            ids=self.ids[rows],
            labels=self.labels[rows],
            split=self.split[rows],
            groups=self.groups[rows],
            stamps=self.stamps[rows],
            columns=tuple(column.take(rows) for column in self.columns),
        )


class ImageSource(Protocol):
    """Interface of a set of images that is listed at once and read image by image.

    A source must define `root`, `table` and `read`. Subclasses inherit defaults for the other methods. A source
    must be picklable to be read from worker processes.

    Attributes:
        root: Location of the images as the user named it, as an absolute path if they are files.
        table: The images, in the order of the cache's rows.
        notes: How the images were listed, and which entries were skipped; empty by default.
    """

    root: str
    table: ImageTable
    notes: SourceNotes = NO_NOTES

    def read(self, row: int) -> tuple[bytes, bytes]:
        """Read one image's file. This method is thread-safe.

        Args:
            row: Index into `table`.

        Returns:
            The bytes of the file, and the current stamp of the image.

        Raises:
            OSError: The image is missing or can't be read.
        """
        ...

    def display_name(self, row: int) -> str:
        """Return the name of an image in messages; the path for a file."""
        return str(self.table.ids[row].decode())

    def path(self, row: int) -> Path | None:  # noqa: ARG002  # used by subclasses
        """Return the path of an image's file; None, the default, for an image that is not a file of its own."""
        return None

    def unsettled(self, since: int) -> NDArray[np.bool_]:  # noqa: ARG002  # used by subclasses
        """Return a mask of the images that may have changed since a time without a change of their stamp.

        Args:
            since: Time in nanoseconds since 1970.

        Returns:
            (n,) bool, all False by default.
        """
        return np.zeros(len(self.table), bool)

    def ahead(self, rows: NDArray[np.int64]) -> AbstractContextManager["ImageSource"]:  # noqa: ARG002  # as above
        """Return a context manager that yields a source whose `read` is asked for these rows, in about this order.

        A source that waits for a network may begin to read them ahead. The default yields the source itself.
        """
        return nullcontext(self)

    def close(self) -> None:
        """Release the resources of the source. Repeated calls are allowed. The default does nothing."""
        return  # a method without a body would be abstract


class SourceRows(ImageSource):
    """Subset of a source's rows.

    Attributes:
        root: Root of the whole source.
        table: Images of the subset.
        notes: Notes on the whole source.
    """

    def __init__(self, source: ImageSource, rows: NDArray[np.int64] | slice) -> None:
        self.root, self.table, self.notes = source.root, source.table.take(rows), source.notes
        self._source, self._rows = source, np.arange(len(source.table))[rows]

    def read(self, row: int) -> tuple[bytes, bytes]:
        """Read one image's file; see `ImageSource.read`."""
        return self._source.read(int(self._rows[row]))

    def display_name(self, row: int) -> str:
        """Return the name of an image in messages; see `ImageSource.display_name`."""
        return self._source.display_name(int(self._rows[row]))

    def path(self, row: int) -> Path | None:
        """Return the path of an image's file; see `ImageSource.path`."""
        return self._source.path(int(self._rows[row]))

    def unsettled(self, since: int) -> NDArray[np.bool_]:
        """Return a mask of the images that may have changed; see `ImageSource.unsettled`."""
        return self._source.unsettled(since)[self._rows]

    def ahead(self, rows: NDArray[np.int64]) -> AbstractContextManager[ImageSource]:
        """Return a context manager that yields the subset, read ahead; see `ImageSource.ahead`."""
        return self._ahead(rows)

    @contextmanager
    def _ahead(self, rows: NDArray[np.int64]) -> Iterator[ImageSource]:
        with self._source.ahead(self._rows[rows]) as whole:
            yield SourceRows(whole, self._rows)

    def close(self) -> None:
        """Release the resources of the whole source; see `ImageSource.close`."""
        self._source.close()
