"""Remote images as an image source."""

import errno
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from frostline.features.notes import SourceNotes
from frostline.features.sources.files import TICK_NS, read_image_file, stamps_of
from frostline.features.sources.remote.access import Access
from frostline.features.sources.remote.ahead import Ahead, Got
from frostline.features.sources.remote.byte_cache import ByteCache
from frostline.features.sources.remote.stores.connections import Connections, finished
from frostline.features.sources.remote.stores.store import Found
from frostline.features.sources.remote.urls import is_url
from frostline.features.table import ImageSource, ImageTable

if TYPE_CHECKING:
    from concurrent.futures import Future


class RemoteSource(ImageSource):
    """Images of which some or all are named by URLs; the others are files of this machine.

    A stamp is the size of an image, and a digest of what identifies its version: the ETag, or the time of its last change.

    Args:
        root: URL or path that the user named, without secrets.
        table: The images.
        places: URL or absolute path of each image.
        names: Name of each image in messages, without secrets.
        changed: (n,) int64 time in nanoseconds of the last change of each image; 0 if a stamp never stays the same after a
            change.
        found: What servers say of the images, in the order of the rows; None for files of this machine.
        connections: Connections to the stores.
        cache: Cache of bytes; None for none.
        notes: How the images were listed, and which entries were skipped.
    """

    def __init__(
        self,
        root: str,
        table: ImageTable,
        *,
        places: Sequence[str],
        names: Sequence[str],
        changed: NDArray[np.int64],
        found: Sequence[Found | None],
        connections: Connections,
        cache: ByteCache | None,
        notes: SourceNotes,
    ) -> None:
        self.root, self.table, self.notes = root, table, notes
        self._places, self._names, self._found = places, names, found
        self._connections, self._cache = connections, cache
        self._changed = changed

    def read(self, row: int) -> tuple[bytes, bytes]:
        """Read one image; see `ImageSource.read`."""
        if not is_url(self._places[row]):
            return read_image_file(self._places[row])
        return self._kept(row) or self._taken(row, self._connections.submit(self._places[row]))

    def display_name(self, row: int) -> str:
        """Return the URL or path of one image, without secrets."""
        return self._names[row]

    def path(self, row: int) -> Path | None:
        """Return the path of a file of this machine; None for a URL."""
        return None if is_url(self._places[row]) else Path(self._places[row])

    def unsettled(self, since: int) -> NDArray[np.bool_]:
        """Return a mask of the images that were changed too close to a time, or of which that is not known."""
        return np.asarray(self._changed > since - TICK_NS)

    def ahead(self, rows: NDArray[np.int64]) -> AbstractContextManager[ImageSource]:
        """Return a context manager that yields the source of images that are read ahead; see `ImageSource.ahead`."""
        return self._ahead(rows.tolist())

    @contextmanager
    def _ahead(self, rows: list[int]) -> Iterator[ImageSource]:
        with closing(Ahead(rows, self._size, self._begin)) as begun:
            yield _AheadSource(self, begun)

    def taken(self, row: int, ahead: Ahead) -> tuple[bytes, bytes]:
        """Return one image that was perhaps read ahead."""
        future = ahead.take(row)
        return self.read(row) if future is None else self._taken(row, future)

    def close(self) -> None:
        """Close all connections; see `ImageSource.close`."""
        self._connections.close()

    def _size(self, row: int) -> int:
        found = self._found[row]
        return 0 if found is None else max(0, found.size)

    def _begin(self, row: int) -> "Future[Got] | None":
        found, place = self._found[row], self._places[row]
        if found is None or (self._cache is not None and self._cache.holds(place, found)):
            return None
        return self._connections.submit(place)

    def _kept(self, row: int) -> tuple[bytes, bytes] | None:
        found = self._found[row]
        data = self._cache.read(self._places[row], found) if self._cache and found else None
        return None if data is None else (data, self.table.stamps[row].tobytes())

    def _taken(self, row: int, future: "Future[Got]") -> tuple[bytes, bytes]:
        try:
            data, found = finished(future)
        except OSError as error:
            raise type(error)(error.errno or errno.EIO, error.strerror, self._names[row]) from None
        if self._cache is not None:
            self._cache.write(self._places[row], found, data)
        return data, stamps_of([found.stat]).tobytes()


class _AheadSource(ImageSource):
    """View of a source whose images are read ahead."""

    def __init__(self, source: RemoteSource, ahead: Ahead) -> None:
        self.root, self.table, self.notes = source.root, source.table, source.notes
        self._source, self._begun = source, ahead

    def read(self, row: int) -> tuple[bytes, bytes]:
        """Read one image; see `ImageSource.read`."""
        return self._source.taken(row, self._begun)

    def display_name(self, row: int) -> str:
        """Return the name of an image in messages."""
        return self._source.display_name(row)


def opened_cache(access: Access) -> ByteCache | None:
    """Return the cache of bytes that the user named; None for none."""
    return None if access.byte_cache is None else ByteCache(access.byte_cache, access.byte_cache_size)
