"""Sources whose images are files, and the table that lists them."""

import errno
import os
import re
import stat
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from frostline.features.errors import SourceError
from frostline.features.sources.listing import Stat, file_stat
from frostline.features.table import ImageSource, ImageTable, make_stamp
from frostline.splits import Split

SPLIT_CODES: Final[Mapping[str, Split]] = {
    "train": Split.TRAIN,
    "val": Split.VAL,
    "valid": Split.VAL,
    "validation": Split.VAL,
    "test": Split.TEST,
}
"""How users name the splits, in lower case."""

# A file can change without its size and time showing it within one tick of its clock, which is 2 s where it is coarsest
# (FAT). So they identify only a file that was last changed longer than that before it was read, as in git.
_TICK_NS = 2_000_000_000


@dataclass(eq=False)
class FileSource(ImageSource):
    """Images that lie in a folder or are named by a manifest; a stamp is a file's size and modification time.

    Attributes:
        root: What the user named, as an absolute path.
        table: The images.
        folder: Absolute path that the ids are relative to.
        skipped: How many entries of the folder were passed over: hidden ones, and files that are no images by their
            name.
    """

    root: str
    table: ImageTable
    folder: str
    skipped: int = 0

    def read(self, row: int) -> tuple[bytes, bytes]:
        """Read one image's file; see `ImageSource.read`."""
        return _read(self.display_name(row))

    def display_name(self, row: int) -> str:
        """Return the absolute path of one image's file."""
        return os.path.join(self.folder, self.table.ids[row].decode())  # noqa: PTH118  # as in _read

    def unsettled(self, since: int) -> NDArray[np.bool_]:
        """Tell which files were changed too shortly before a time; see `ImageSource.unsettled`."""
        modified = self.table.stamps.view("<i8")[:, 1]
        return np.asarray(modified > since - _TICK_NS)


@dataclass(eq=False)
class PathSource(ImageSource):
    """Images named one by one, of no class, in the order given; what `predict` reads. Not for a cache.

    Attributes:
        paths: The files.
        root: The current folder.
        table: The images; unlike a cache's, its rows are in the order of `paths`.
    """

    paths: Sequence[Path]
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
            stamps=_stamps([file_stat(str(path)) for path in self.paths]),
        )

    def read(self, row: int) -> tuple[bytes, bytes]:
        """Read one image's file; see `ImageSource.read`."""
        return _read(self.display_name(row))

    def display_name(self, row: int) -> str:
        """Return the path of one image's file as it was given."""
        return str(self.paths[row])


def _read(location: str) -> tuple[bytes, bytes]:
    with open(location, "rb", buffering=0) as file:  # noqa: PTH123  # a Path per image would be needless work
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", location)
        return file.readall(), make_stamp(status.st_size, status.st_mtime_ns)


def _stamps(stats: Sequence[Stat]) -> NDArray[np.uint8]:
    return np.array(stats, "<i8").reshape(len(stats), 2).view(np.uint8)


def make_table(
    ids: Sequence[str],
    stats: Sequence[Stat],
    *,
    labels: Sequence[str],
    split: Sequence[Split],
    groups: Sequence[str] = (),
    where: str,
) -> ImageTable:
    """Put rows into the table's order and number their classes.

    Args:
        ids: Unique paths.
        stats: Of each file.
        labels: Class name of each, empty for unknown.
        split: Of each.
        groups: Group of each, empty for none; may be left out altogether.
        where: What an error names.

    Raises:
        SourceError: An id is not Unicode text.
    """
    encoded = np.array([_encode(id_, where) for id_ in ids], dtype=np.bytes_)
    order = np.argsort(encoded, kind="stable")
    classes = sort_classes({*labels} - {""})
    number = {"": -1} | {name: index for index, name in enumerate(classes)}
    return ImageTable(
        ids=encoded[order],
        labels=np.array([number[label] for label in labels], np.int64)[order],
        classes=classes,
        split=np.array(split, np.uint8)[order],
        groups=np.array([group.encode() for group in groups] or np.zeros(len(ids), "S1"), np.bytes_)[order],
        stamps=_stamps(stats)[order],
    )


def _encode(id_: str, where: str) -> bytes:
    try:
        return id_.encode()
    except UnicodeEncodeError as error:
        raise SourceError(
            f"{where}: the file name {os.fsencode(id_)!r} is not UTF-8 text; rename the file (convmv renames whole folders)"
        ) from error


def sort_classes(names: Collection[str]) -> tuple[str, ...]:
    """Class names in order: by value if all are integers, as text otherwise."""
    if all(map(is_integer, names)):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def is_integer(text: str) -> bool:
    """Whether the text is a plain decimal integer."""
    return re.fullmatch(r"[+-]?[0-9]+", text) is not None
