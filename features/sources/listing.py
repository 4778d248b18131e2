"""Finding the image files below a folder."""

import os
import stat as bits
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from frostline.features.errors import SourceError
from frostline.features.images.decoding import EXTENSIONS

Stat = tuple[int, int]
"""A file's size in bytes and its modification time in nanoseconds."""

UNREADABLE: Final[Stat] = (-1, -1)
"""The stat of a file that isn't there or can't be looked at; its row is recorded as failed once it is read."""

_Folder = tuple[
    str, frozenset[tuple[int, int]]
]  # path below the root with a final slash, and what it lies in


@dataclass
class Listing:
    """Image files found below a folder.

    Attributes:
        paths: Relative to the folder, with forward slashes, in no particular order.
        stats: Of each path.
        skipped: How many other entries were passed over: hidden ones, and files that are no images by their name.
        folders: How many folders were looked into.
    """

    paths: list[str] = field(default_factory=list)
    stats: list[Stat] = field(default_factory=list)
    skipped: int = 0
    folders: int = 0


def list_images(folder: str) -> Listing:
    """Find the image files, by extension, below a folder.

    Links to files and folders are followed, except a link to a folder that it lies in itself. A link that leads nowhere
    is listed, as `UNREADABLE`: an image is missing, and that should be seen. Names that start with a dot are skipped.

    Raises:
        SourceError: A folder can't be read.
    """
    listing = Listing()
    pending: list[_Folder] = [("", frozenset())]
    while pending:
        prefix, ancestors = pending.pop()
        path = f"{folder}/{prefix}"
        try:
            status = os.stat(path)  # noqa: PTH116  # listing works on strings throughout, for the sake of large sets
            ancestors |= {(status.st_dev, status.st_ino)}
            with os.scandir(path) as entries:
                pending += [(name, ancestors) for name in _sift(entries, prefix, ancestors, listing)]
        except OSError as error:
            raise SourceError(f"{path}: the folder can't be read: {error.strerror}") from error
        listing.folders += 1
    return listing


def _sift(
    entries: Iterator[os.DirEntry[str]], prefix: str, ancestors: frozenset[tuple[int, int]], listing: Listing
) -> Iterator[str]:
    """Put the images of one folder on the list; yield its subfolders."""
    for entry in entries:
        if entry.name.startswith("."):
            listing.skipped += 1
        elif _is_folder(entry):
            if not (entry.is_symlink() and _identity(entry) in ancestors):
                yield f"{prefix}{entry.name}/"
        elif is_image_name(entry.name) and (stat := _entry_stat(entry)):
            listing.paths.append(prefix + entry.name)
            listing.stats.append(stat)
        else:
            listing.skipped += 1


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _identity(entry: os.DirEntry[str]) -> tuple[int, int]:
    status = entry.stat()
    return status.st_dev, status.st_ino


def is_image_name(name: str) -> bool:
    """Whether the name's extension is one of `EXTENSIONS`, in upper or lower case."""
    return name[name.rfind(".") :].lower() in EXTENSIONS


def _entry_stat(entry: os.DirEntry[str]) -> Stat | None:
    try:
        return _regular(entry.stat())
    except OSError:
        return UNREADABLE


def file_stat(path: str) -> Stat:
    """Stat of a file; `UNREADABLE` where there is none."""
    try:
        return _regular(os.stat(path)) or UNREADABLE  # noqa: PTH116  # as above
    except OSError:
        return UNREADABLE


def _regular(status: os.stat_result) -> Stat | None:
    return (status.st_size, status.st_mtime_ns) if bits.S_ISREG(status.st_mode) else None
