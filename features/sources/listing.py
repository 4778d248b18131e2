"""Search for image files below a folder."""

import os
import stat as bits
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from frostline.features.errors import SourceError
from frostline.features.images.decoding import EXTENSIONS

Stat = tuple[int, int, int, int]
"""Size of a file in bytes, times of its last modification and status change in nanoseconds, and inode number."""

UNREADABLE: Final[Stat] = (-1, -1, -1, -1)
"""Stat of a file that is missing or inaccessible. Its row is recorded as failed when it is read."""

# Windows reports no time of a status change, and no inode number when a folder is listed.
_BRIEF = os.name == "nt"

# Path below the root with a trailing slash, and the device and inode numbers of the folder's ancestors.
_Folder = tuple[str, frozenset[tuple[int, int]]]


@dataclass
class Listing:
    """Image files found below a folder.

    Attributes:
        paths: Paths relative to the folder, with forward slashes, in no particular order.
        stats: Stat of each path.
        skipped: Number of skipped entries: hidden ones, and files without an image extension.
        folders: Number of folders searched.
    """

    paths: list[str] = field(default_factory=list)
    stats: list[Stat] = field(default_factory=list)
    skipped: int = 0
    folders: int = 0


def list_images(folder: str) -> Listing:
    """Find image files below a folder by their extension.

    Links to files and folders are followed, except links to one of their own parent folders. A broken link is
    listed as `UNREADABLE`, so that the missing image is reported. Names that start with a dot are skipped.

    Raises:
        SourceError: A folder can't be read.
    """
    listing = Listing()
    pending: list[_Folder] = [("", frozenset())]
    while pending:
        prefix, ancestors = pending.pop()
        path = f"{folder}/{prefix}"
        try:
            status = os.stat(path)  # noqa: PTH116  # strings are faster than paths for large sets
            ancestors |= {(status.st_dev, status.st_ino)}
            with os.scandir(path) as entries:
                pending += [(name, ancestors) for name in _collect(entries, prefix, ancestors, listing)]
        except OSError as error:
            raise SourceError(f"{path}: the folder can't be read: {error.strerror}") from error
        listing.folders += 1
    return listing


def _collect(
    entries: Iterator[os.DirEntry[str]], prefix: str, ancestors: frozenset[tuple[int, int]], listing: Listing
) -> Iterator[str]:
    """Add the images of one folder to the listing and yield its subfolders."""
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
    """Return whether a file name's extension is one of `EXTENSIONS`, ignoring case."""
    return name[name.rfind(".") :].lower() in EXTENSIONS


def _entry_stat(entry: os.DirEntry[str]) -> Stat | None:
    try:
        return _regular(entry.stat())
    except OSError:
        return UNREADABLE


def file_stat(path: str) -> Stat:
    """Return the stat of a file, or `UNREADABLE` if it is missing or not a regular file."""
    try:
        return _regular(os.stat(path)) or UNREADABLE  # noqa: PTH116  # as above
    except OSError:
        return UNREADABLE


def _regular(status: os.stat_result) -> Stat | None:
    return stat_fields(status) if bits.S_ISREG(status.st_mode) else None


def stat_fields(status: os.stat_result) -> Stat:
    """Return what identifies the state of a file."""
    if _BRIEF:
        return status.st_size, status.st_mtime_ns, 0, 0
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
