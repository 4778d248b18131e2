"""Sources of image files, and the construction of their tables."""

import itertools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from frostline.features.columns import Column
from frostline.features.errors import SourceError
from frostline.features.images.decoding import MAX_FILE_BYTES
from frostline.features.notes import NO_NOTES, SourceNotes
from frostline.features.sources.labels import listed, sort_classes
from frostline.features.sources.stats import Stat, file_stat, stat_fields
from frostline.features.table import ImageSource, ImageTable
from frostline.splits import Split
from frostline.system.files import read_with_status

# A file can change without a change of its size and times within one tick of the file system's clock, at most 2 s
# (FAT). As in git, they identify only files last changed more than one tick before they were read.
TICK_NS = 2_000_000_000


@dataclass(eq=False)
class FileSource(ImageSource):
    """Image files in a folder or listed by a manifest.

    A stamp is a file's size and a hash of its inode number and of the times of its last modification and status
    change. A copy of a file and a renamed file have other stamps, and so has a file rewritten with its time kept.

    Attributes:
        root: Folder or manifest that the user named, as an absolute path.
        table: The images.
        changed: (n,) int64 time in nanoseconds of the last modification or status change of each file, the later one.
        folder: Absolute path that the ids are relative to.
        notes: How the images were listed, and which entries were skipped.
    """

    root: str
    table: ImageTable
    changed: NDArray[np.int64]
    folder: str
    notes: SourceNotes = NO_NOTES

    def read(self, row: int) -> tuple[bytes, bytes]:
        """Read one image's file; see `ImageSource.read`."""
        return read_image_file(self.display_name(row))

    def display_name(self, row: int) -> str:
        """Return the absolute path of one image's file."""
        return os.path.join(self.folder, self.table.ids[row].decode())  # noqa: PTH118  # as in read_image_file

    def path(self, row: int) -> Path:
        """Return the absolute path of one image's file."""
        return Path(self.display_name(row))

    def unsettled(self, since: int) -> NDArray[np.bool_]:
        """Return a mask of the files modified too close to a time; see `ImageSource.unsettled`."""
        return np.asarray(self.changed > since - TICK_NS)


@dataclass(eq=False)
class PathSource(ImageSource):
    """Unlabelled images named individually, in the order given. `predict` reads them; a cache must not.

    Attributes:
        paths: Image files.
        root: Current working folder.
        table: The images, in the order of `paths`, not sorted by id as in a cache.
        notes: Entries skipped in the folders of the images.
    """

    paths: Sequence[Path]
    notes: SourceNotes = NO_NOTES
    root: str = field(init=False)
    table: ImageTable = field(init=False)

    def __post_init__(self) -> None:
        self.root = str(Path.cwd())
        n = len(self.paths)
        self.table = ImageTable(
            ids=np.array([os.fsencode(path) for path in self.paths], dtype=np.bytes_),
            labels=np.full(n, -1, np.int64),
            classes=(),
            split=np.zeros(n, np.uint8),
            groups=np.zeros(n, "S1"),
            stamps=stamps_of([file_stat(str(path)) for path in self.paths]),
        )

    def read(self, row: int) -> tuple[bytes, bytes]:
        """Read one image's file; see `ImageSource.read`."""
        return read_image_file(self.display_name(row))

    def display_name(self, row: int) -> str:
        """Return the path of one image's file as the user named it."""
        return str(self.paths[row])

    def path(self, row: int) -> Path:
        """Return the path of one image's file as the user named it."""
        return self.paths[row]


def absolute(path: str) -> str:
    """Return an absolute path without ``..``. Links keep their names."""
    return os.path.abspath(path)  # noqa: PTH100  # Path.absolute keeps "..", and resolve would rename a link


def read_image_file(location: str) -> tuple[bytes, bytes]:
    """Return the bytes of an image file, and its stamp."""
    data, status = read_with_status(location, MAX_FILE_BYTES)
    return data, stamps_of([stat_fields(status)]).tobytes()


def stamps_of(stats: Sequence[Stat]) -> NDArray[np.uint8]:
    """Return the (n, 16) uint8 stamps of files; `NO_STAMP` for `UNREADABLE`."""
    fields = _fields(stats)
    mixed = np.zeros(len(stats), "<u8")
    for column in fields[:, 1:].astype("<u8").T:
        mixed = _mix(mixed ^ column)
    sizes = fields[:, 0]
    return np.stack([sizes, np.where(sizes < 0, -1, mixed.view("<i8"))], axis=1).view(np.uint8)


def _fields(stats: Sequence[Stat]) -> NDArray[np.int64]:
    """Return stats as an (n, 4) array."""
    numbers = np.fromiter(itertools.chain.from_iterable(stats), "<i8", 4 * len(stats))
    return numbers.reshape(len(stats), 4)


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return a hash of each number: one step of the generator SplitMix64."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ values >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ values >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return values ^ values >> np.uint64(31)


def make_table(
    ids: Sequence[str],
    stats: Sequence[Stat],
    *,
    labels: Sequence[str],
    split: Sequence[Split],
    groups: Sequence[str] = (),
    columns: Sequence[Column] = (),
    where: str,
) -> tuple[ImageTable, NDArray[np.int64]]:
    """Return a table with its rows sorted by id and its classes numbered, and the `FileSource.changed` of its rows.

    Args:
        ids: Unique paths.
        stats: Stat of each file.
        labels: Class name of each file, empty for unknown.
        split: Split of each file.
        groups: Group of each file, empty for none. Optional.
        columns: Side columns.
        where: Source named in error messages.

    Raises:
        SourceError: An id is not Unicode text.
    """
    encoded = np.array(_encode(ids, where), dtype=np.bytes_)
    order = np.argsort(encoded, kind="stable")
    classes = sort_classes({*labels} - {""})
    number = {"": -1} | {name: index for index, name in enumerate(classes)}
    table = ImageTable(
        ids=encoded[order],
        labels=np.array([number[label] for label in labels], np.int64)[order],
        classes=classes,
        split=np.array(split, np.uint8)[order],
        groups=np.array([group.encode() for group in groups] or np.zeros(len(ids), "S1"), np.bytes_)[order],
        stamps=stamps_of(stats)[order],
        columns=tuple(column.take(order) for column in columns),
    )
    changed: NDArray[np.int64] = _fields(stats)[:, 1:3].max(axis=1)
    return table, changed[order]


def _encode(ids: Sequence[str], where: str) -> list[bytes]:
    try:
        return [id_.encode() for id_ in ids]
    except UnicodeEncodeError:
        names = [os.fsencode(id_) for id_ in ids if re.search(r"[\ud800-\udfff]", id_)]
    raise SourceError(
        f"{where}: {'1 file name is' if len(names) == 1 else f'{len(names)} file names are'} not UTF-8 text:"
        f" {listed(names)}; rename the files (convmv renames whole folders)"
    )
