"""Search for rows in earlier files by the bytes of their images."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from frostline.features.cache.file.mapped import MappedFile
from frostline.features.content import CONTENT_BYTES, as_keys, as_rows, file_content
from frostline.features.images.files.earlier_pixels import may_differ_from_earlier
from frostline.features.table import FAILED, STAMP_BYTES, ImageSource, ImageTable

Progress = Callable[[int, int], None]

_THREADS = 8  # reading waits for the disk, and hashing releases the GIL
_CHUNK = 1024


class Contents:
    """Digests of a source's images. Each image is read at most once, on demand.

    Attributes:
        source: Source of the images.
        rehash: Whether to read every image, whatever its stamp says.
        progress: Function called with (images read, images to read).
    """

    def __init__(
        self, source: ImageSource, *, rehash: bool = False, progress: Progress | None = None
    ) -> None:
        rows = len(source.table.ids)
        self.source, self.rehash, self.progress = source, rehash, progress
        self._seen = np.zeros(rows, bool)
        self._content = np.zeros((rows, CONTENT_BYTES), np.uint8)
        self._in_doubt = np.zeros(rows, bool)
        self._stamps = source.table.stamps.copy()

    def of(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the (k, 16) uint8 digest of each row's image; zero for unreadable images."""
        new = rows[~self._seen[rows]]
        if len(new):
            with ThreadPoolExecutor(_THREADS) as pool:
                for start in range(0, len(new), _CHUNK):
                    chunk = new[start : start + _CHUNK]
                    found = list(pool.map(self._read, chunk.tolist()))
                    self._content[chunk] = as_rows([content for content, _, _ in found])
                    self._stamps[chunk] = as_rows([stamp for _, stamp, _ in found])
                    self._in_doubt[chunk] = [in_doubt for _, _, in_doubt in found]
                    if self.progress:
                        self.progress(start + len(chunk), len(new))
            self._seen[new] = True
        return self._content[rows]

    def decoded_anew(
        self, rows: NDArray[np.int64], failed: NDArray[np.bool_], *, by_earlier: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Return a (k,) mask of the rows that were read and whose earlier decoding may have given another result.

        Args:
            rows: (k,) int64 rows.
            failed: (k,) bool mask of the rows that could not be decoded then.
            by_earlier: (k,) bool mask of the rows that an earlier version may have decoded.
        """
        return self._seen[rows] & ((self._in_doubt[rows] & by_earlier) | failed)

    def doubtful(self, rows: NDArray[np.int64], since: int) -> NDArray[np.bool_]:
        """Return a (k,) mask of the `rows` whose images must be read, although they have the stamp of a time."""
        return self.source.unsettled(since)[rows] | self.rehash

    def stamps_of(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the (k, 16) uint8 stamp of each row when it was read, or when it was listed if it wasn't read."""
        return self._stamps[rows]

    def _read(self, row: int) -> tuple[bytes, bytes, bool]:
        try:
            data, stamp = self.source.read(row)
        except OSError:
            return bytes(CONTENT_BYTES), self.source.table.stamps[row].tobytes(), False
        return file_content(data), stamp, may_differ_from_earlier(data)


def is_current(file: MappedFile, contents: Contents, rows: NDArray[np.int64]) -> bool:
    """Return whether rows of a file match the current images. The file must list the same images row by row.

    Only images that may have changed without a new stamp, and images that were unreadable before, are read, or all
    images if `contents` reads every one.
    """
    source = contents.source
    content = file.array("content")[rows]
    unread = (file.array("status")[rows] == FAILED) & ~content.any(axis=1)
    if not ((file.stamps[rows] == source.table.stamps[rows]).all(axis=1) | unread).all():
        return False
    doubtful = unread | contents.doubtful(rows, file.layout.origin.created)
    return bool((contents.of(rows[doubtful]) == content[doubtful]).all())


@dataclass(frozen=True, eq=False)
class KnownRows:
    """Rows that earlier files already hold.

    Attributes:
        rows: (k,) int64, ascending.
        files: The earlier files.
        file: (k,) int64 index into `files`.
        origin: (k,) int64 row in that file.
        stamps: (k, 16) uint8 current stamp of each image.
    """

    rows: NDArray[np.int64]
    files: Sequence[MappedFile]
    file: NDArray[np.int64]
    origin: NDArray[np.int64]
    stamps: NDArray[np.uint8]


def find_reusable(files: Sequence[MappedFile], contents: Contents, rows: NDArray[np.int64]) -> KnownRows:
    """Return those of `find_known` that need not be computed again.

    A row that is known by the bytes of its image only is computed again if it failed, or if it is in a file of version
    1 and earlier versions may have decoded these bytes to other pixels. Files of version 2 are written since images are
    decoded as they are.
    """
    known = find_known(files, contents, rows)
    failed = np.zeros(len(known.rows), bool)
    for index, file in enumerate(files):
        mine = known.file == index
        failed[mine] = file.array("status")[known.origin[mine]] == FAILED
    is_earlier = np.array([file.layout.version == 1 for file in files], bool)
    kept = ~contents.decoded_anew(known.rows, failed, by_earlier=is_earlier[known.file])
    return replace(
        known,
        rows=known.rows[kept],
        file=known.file[kept],
        origin=known.origin[kept],
        stamps=known.stamps[kept],
    )


@dataclass(frozen=True)
class Overlap:
    """Comparison of the images of an earlier file with those of a source, by their bytes.

    Attributes:
        images: Number of images in the file that could be read.
        common: Number of these that the source holds.
        agrees: Whether the source has the same labels, splits and groups for them.
    """

    images: int
    common: int
    agrees: bool

    @property
    def is_complete(self) -> bool:
        """Whether the source holds all images of the file, with the same labels, splits and groups."""
        return self.common == self.images and self.agrees


def compare_images(file: MappedFile, contents: Contents) -> Overlap:
    """Compare the images of an earlier file with those of the source."""
    table = contents.source.table
    known = find_known([file], contents, np.arange(len(table)))
    stored, origin = as_keys(file.array("content")), known.origin
    readable = file.known() & file.array("content").any(axis=1)
    agrees = (
        np.array_equal(_labels(file.table, origin), _labels(table, known.rows))
        and np.array_equal(file.table.split[origin], table.split[known.rows])
        and np.array_equal(file.table.groups[origin], table.groups[known.rows])
    )
    return Overlap(int(readable.sum()), int(np.isin(stored[readable], stored[origin]).sum()), agrees)


def _labels(table: ImageTable, rows: NDArray[np.int64]) -> NDArray[np.str_]:
    """Return the (k,) name of the class of each row, empty for none."""
    return np.array([*table.classes, ""])[table.labels[rows]]


def find_known(files: Sequence[MappedFile], contents: Contents, rows: NDArray[np.int64]) -> KnownRows:
    """Return those of `rows` that earlier files of the same specification hold.

    An image with the same id and stamp is the same. Another image is read only if its size equals that of a known
    one, and compared by its bytes. A row that failed after its image was read would fail again, and counts as
    known.
    """
    usable = [np.flatnonzero(file.known()) for file in files]
    which, origin = np.full(len(rows), -1), np.full(len(rows), -1)
    for index, (file, theirs) in enumerate(zip(files, usable, strict=True)):
        left = np.flatnonzero(which < 0)
        found = _match_stamps(file, theirs, contents, rows[left])
        which[left[found >= 0]] = index
        origin[left] = found
    left = np.flatnonzero(which < 0)
    sizes = np.concatenate([_sizes(file.stamps[theirs]) for file, theirs in zip(files, usable, strict=True)])
    left = left[np.isin(_sizes(contents.source.table.stamps[rows[left]]), sizes)]
    which[left], origin[left] = _match_content(files, usable, contents.of(rows[left]))
    known = which >= 0
    return KnownRows(rows[known], files, which[known], origin[known], contents.stamps_of(rows[known]))


def _match_stamps(
    file: MappedFile, theirs: NDArray[np.int64], contents: Contents, rows: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the (k,) row in `file` with the same id and stamp, where the stamp is reliable; -1 for none."""
    if not len(theirs):
        return np.full(len(rows), -1)
    source = contents.source
    ids, wanted = file.array("ids")[theirs], source.table.ids[rows]
    candidates = theirs[np.searchsorted(ids, wanted).clip(max=len(ids) - 1)]
    same = (
        (file.array("ids")[candidates] == wanted)
        & (file.stamps[candidates] == source.table.stamps[rows]).all(axis=1)
        & ~contents.doubtful(rows, file.layout.origin.created)
    )
    return np.where(same, candidates, -1)


def _sizes(stamps: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the (k,) file size in each stamp."""
    return np.ascontiguousarray(stamps[:, : STAMP_BYTES // 2]).view("<i8")[:, 0]


def _match_content(
    files: Sequence[MappedFile], usable: Sequence[NDArray[np.int64]], content: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the (k,) index into `files` and the (k,) row in that file with the same content; -1 for none."""
    stored = np.concatenate(
        [as_keys(file.array("content")[rows]) for file, rows in zip(files, usable, strict=True)]
    )
    which = np.repeat(np.arange(len(files)), [len(rows) for rows in usable])
    origin = np.concatenate(usable)
    wanted = as_keys(content)
    keys, first = np.unique(stored, return_index=True)
    if not len(keys) or not len(wanted):
        return np.full(len(wanted), -1), np.full(len(wanted), -1)
    position = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    same = (keys[position] == wanted) & content.any(axis=1)
    return np.where(same, which[first[position]], -1), np.where(same, origin[first[position]], -1)
