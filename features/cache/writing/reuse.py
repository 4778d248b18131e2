"""Find the rows that an earlier file already has, by the bytes of their images."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from frostline.features.cache.file.mapped import MappedFile
from frostline.features.content import CONTENT_BYTES, file_content
from frostline.features.table import FAILED, ImageSource, ImageTable

Progress = Callable[[int, int], None]

_THREADS = 8  # reading waits for the disk; hashing lets other threads run
_CHUNK = 1024
# A file can change without its stat showing it within one tick of its clock, 2 s where it is coarsest (FAT). So a stat
# tells only of files that were last changed longer than that before their reading could have begun, as in git.
_RACY_NS = 2_000_000_000


class Contents:
    """Digests of a source's images, each read at most once, and only when asked for.

    Args:
        source: The images.
        progress: Called with (images read, images asked for).
    """

    def __init__(self, source: ImageSource, progress: Progress | None = None) -> None:
        rows = len(source.table.ids)
        self._source, self._progress = source, progress
        self._seen = np.zeros(rows, bool)
        self._content = np.zeros((rows, CONTENT_BYTES), np.uint8)
        self._stat = np.array(source.table.stat, np.int64)

    def of(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """(k, 16) uint8: digest of each row's image, zero where it can't be read."""
        new = rows[~self._seen[rows]]
        if len(new):
            with ThreadPoolExecutor(_THREADS) as pool:
                for start in range(0, len(new), _CHUNK):
                    chunk = new[start : start + _CHUNK]
                    found = list(pool.map(self._read, chunk.tolist()))
                    self._content[chunk] = np.frombuffer(b"".join(c for c, _ in found), np.uint8).reshape(
                        len(chunk), -1
                    )
                    self._stat[chunk] = [stat for _, stat in found]
                    if self._progress:
                        self._progress(start + len(chunk), len(new))
            self._seen[new] = True
        return self._content[rows]

    def stat_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """(k, 2) int64: size and mtime_ns as they were when a row was read, or else listed."""
        return self._stat[rows]

    def _read(self, row: int) -> tuple[bytes, tuple[int, int]]:
        try:
            data, stat = self._source.read(row)
        except OSError:
            size, mtime = self._source.table.stat[row].tolist()
            return bytes(CONTENT_BYTES), (size, mtime)
        return file_content(data), stat


def is_current(file: MappedFile, contents: Contents, table: ImageTable, rows: NDArray[np.int64]) -> bool:
    """Whether rows of a file, which has the same images row for row, are of the images as they are now.

    Reads only images that may have changed without their stat showing it, and those that could not be read before.
    """
    stored = file.array("stat")[rows]
    content = file.array("content")[rows]
    unread = (file.array("status")[rows] == FAILED) & ~content.any(axis=1)
    if not ((stored == table.stat[rows]).all(axis=1) | unread).all():
        return False
    doubtful = unread | _is_racy(stored, file)
    return bool((contents.of(rows[doubtful]) == content[doubtful]).all())


def _is_racy(stat: NDArray[np.int64], file: MappedFile) -> NDArray[np.bool_]:
    racy: NDArray[np.bool_] = stat[:, 1] > file.layout.created - _RACY_NS
    return racy


@dataclass(frozen=True, eq=False)
class Known:
    """Rows whose outcome is in an earlier file.

    Attributes:
        rows: (k,) int64, ascending.
        files: The earlier files.
        file: (k,) int64 index into `files`.
        origin: (k,) int64 row in that file.
        stat: (k, 2) int64: size and mtime_ns of the image now.
    """

    rows: NDArray[np.int64]
    files: Sequence[MappedFile]
    file: NDArray[np.int64]
    origin: NDArray[np.int64]
    stat: NDArray[np.int64]


def find_known(
    files: Sequence[MappedFile], contents: Contents, table: ImageTable, rows: NDArray[np.int64]
) -> Known:
    """Find which of `rows` earlier files of the same specification have.

    An image of the same id and stat is the same; any other is read, if its size is that of a known one, and
    recognised by its bytes. A row that failed after its image was read would fail again, and counts as known.
    """
    usable = [np.flatnonzero(file.known()) for file in files]
    which, origin = np.full(len(rows), -1), np.full(len(rows), -1)
    for index, (file, theirs) in enumerate(zip(files, usable, strict=True)):
        left = np.flatnonzero(which < 0)
        found = _match_stat(file, theirs, table, rows[left])
        which[left[found >= 0]] = index
        origin[left] = found
    left = np.flatnonzero(which < 0)
    left = left[np.isin(table.stat[rows[left], 0], _sizes(files, usable))]
    which[left], origin[left] = _match_content(files, usable, contents.of(rows[left]))
    known = which >= 0
    return Known(rows[known], files, which[known], origin[known], contents.stat_of(rows[known]))


def _match_stat(
    file: MappedFile, theirs: NDArray[np.int64], table: ImageTable, rows: NDArray[np.int64]
) -> NDArray[np.int64]:
    """(k,) row in `file` of the same id and the same, telling stat; -1 for none."""
    if not len(theirs):
        return np.full(len(rows), -1)
    ids, wanted = file.array("ids")[theirs], table.ids[rows]
    candidates = theirs[np.searchsorted(ids, wanted).clip(max=len(ids) - 1)]
    stat = file.array("stat")[candidates]
    same = (
        (file.array("ids")[candidates] == wanted)
        & (stat == table.stat[rows]).all(axis=1)
        & ~_is_racy(stat, file)
    )
    return np.where(same, candidates, -1)


def _sizes(files: Sequence[MappedFile], usable: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.unique(
        np.concatenate([file.array("stat")[rows, 0] for file, rows in zip(files, usable, strict=True)])
    )


def _match_content(
    files: Sequence[MappedFile], usable: Sequence[NDArray[np.int64]], content: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(k,) index into `files` and (k,) row there of the same content; -1 for none."""
    stored = np.concatenate(
        [_as_keys(file.array("content")[rows]) for file, rows in zip(files, usable, strict=True)]
    )
    which = np.repeat(np.arange(len(files)), [len(rows) for rows in usable])
    origin = np.concatenate(usable)
    wanted = _as_keys(content)
    keys, first = np.unique(stored, return_index=True)
    if not len(keys) or not len(wanted):
        return np.full(len(wanted), -1), np.full(len(wanted), -1)
    position = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    same = (keys[position] == wanted) & content.any(axis=1)
    return np.where(same, which[first[position]], -1), np.where(same, origin[first[position]], -1)


def _as_keys(content: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    """(k,) one value to sort and compare for each digest; byte strings compare in all of their 16 bytes."""
    return np.ascontiguousarray(content).view(f"S{CONTENT_BYTES}")[:, 0]
