"""Content of images: digests of their bytes, and a source of images that are named by them."""

import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from frostline.features.cache.store import content_table
from frostline.features.content import CONTENT_BYTES, as_rows, file_content
from frostline.features.errors import SourceError
from frostline.features.images.batches import default_workers
from frostline.features.images.decoding import reason_of
from frostline.features.sources.files import TICK_NS
from frostline.features.sources.stats import UNREADABLE, Stat, file_stat, stat_fields
from frostline.features.table import ImageSource
from frostline.pipeline.estimators.columns import ImageColumn

_AT_ONCE = 32  # images per task of a thread
_MOST = 1 << 17  # remembered files, about 50 MB

_remembered: dict[str, tuple[Stat, bytes]] = {}
"""Digest of each file that this process has read, by absolute path, with the stat of the file.

As in a cache, a file with the same stat is unchanged if it was last changed more than one tick of the clock before it
was read. Only such files are remembered.
"""

_lock = threading.Lock()


def contents_of(column: ImageColumn, workers: int | None = None) -> tuple[NDArray[np.uint8], dict[int, str]]:
    """Return the digests of images, read in parallel.

    Args:
        column: The images.
        workers: Number of threads; None for one per core.

    Returns:
        (n, 16) uint8 digests, zero for unreadable images; and the reason for each unreadable image by row.
    """
    chunks = [range(start, min(start + _AT_ONCE, len(column))) for start in range(0, len(column), _AT_ONCE)]
    errors: dict[int, str] = {}

    def digests(rows: range) -> list[bytes]:
        return [_digest(column, row, errors) for row in rows]

    if len(chunks) < 2:
        found = digests(range(len(column)))
        return (as_rows(found) if found else np.zeros((0, CONTENT_BYTES), np.uint8)), errors
    with ThreadPoolExecutor(workers or default_workers(), thread_name_prefix="digest") as pool:
        try:
            found = [digest for some in pool.map(digests, chunks) for digest in some]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return as_rows(found), dict(sorted(errors.items()))


def _digest(column: ImageColumn, row: int, errors: dict[int, str]) -> bytes:
    path = column.path(row)
    key = None if path is None else os.path.abspath(path)  # noqa: PTH100  # a Path per image would be needless work
    known = _remembered.get(key) if key else None
    if known and known[0] == file_stat(str(key)):
        return known[1]
    now = time.time_ns()
    try:
        data, status = column.read(row)
    except (OSError, MemoryError) as error:
        errors[row] = reason_of(error)
        return bytes(CONTENT_BYTES)
    except SourceError as error:
        errors[row] = str(error)
        return bytes(CONTENT_BYTES)
    digest = file_content(data)
    if key and status:
        _remember(key, stat_fields(status), digest, now)
    return digest


def _remember(path: str, stat: Stat, digest: bytes, now: int) -> None:
    if max(stat[1:3]) > now - TICK_NS or stat == UNREADABLE:
        return
    with _lock:
        if len(_remembered) >= _MOST:
            _remembered.clear()
        _remembered[path] = stat, digest


class ContentSource(ImageSource):
    """Images of a column that are named by their content, each once.

    Attributes:
        rows: (k,) int64 row of the column of each image.
    """

    def __init__(self, column: ImageColumn, content: NDArray[np.uint8], rows: Sequence[int]) -> None:
        """Initialise the source.

        Args:
            column: The images.
            content: (k, 16) uint8 digests, ascending and unique.
            rows: Row of the column of each digest.
        """
        self.root = "memory:ImageFeatures"
        self.table = content_table(content)
        self.rows = list(rows)
        self._column = column

    def read(self, row: int) -> tuple[bytes, bytes]:
        """Return one image as the bytes of a file; see `ImageSource.read`."""
        try:
            data, _ = self._column.read(self.rows[row])
        except SourceError as error:
            raise OSError(str(error)) from None
        return data, self.table.stamps[row].tobytes()

    def display_name(self, row: int) -> str:
        """Return the name of an image in messages; see `ImageSource.display_name`."""
        return self._column.name(self.rows[row])
