"""Search for image files below a folder."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from frostline.features.errors import SourceError
from frostline.features.images.decoding import extensions
from frostline.features.notes import Skipped
from frostline.features.sources.stats import UNREADABLE, Stat, regular_fields

# fmt: off
SYSTEM_FOLDERS: Final = frozenset({
    "$recycle.bin", "#recycle", "#snapshot", "#trash", "@eadir", "@recycle", "@tmp", ".@__thumb", ".appledouble",
    ".ipynb_checkpoints", ".spotlight-v100", ".thumbnails", ".trash", ".trashes", "__macosx", "found.000", "lost+found",
    "recycler", "system volume information",
})
# fmt: on
"""Names, in lower case, of folders that systems and programs make: thumbnails, deleted files and indices."""
# Path below the root with a trailing slash, and the device and inode numbers of the folder's ancestors.
_Folder = tuple[str, frozenset[tuple[int, int]]]


@dataclass
class Listing:
    """Image files found below a folder.

    Attributes:
        paths: Paths relative to the folder, with forward slashes, in no particular order.
        stats: Stat of each path.
        folders: Paths of the folders searched, each with a trailing slash; the folder itself is "".
        files: Number of skipped files by extension.
        system_folders: Number of skipped folders by name.
        hidden: Number of other skipped entries whose name starts with a dot.
        special: Number of skipped pipes, sockets and devices that have an image extension.
        loops: Number of skipped links to a folder that contains them.
        same: Pairs of folders searched that are one folder on disk, because a link names it a second time.
    """

    paths: list[str] = field(default_factory=list)
    stats: list[Stat] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    files: Counter[str] = field(default_factory=Counter)
    system_folders: Counter[str] = field(default_factory=Counter)
    hidden: int = 0
    special: int = 0
    loops: int = 0
    same: list[tuple[str, str]] = field(default_factory=list)

    def add(self, other: "Listing") -> None:
        """Add the counts of the entries skipped in another folder."""
        self.files += other.files
        self.system_folders += other.system_folders
        self.hidden += other.hidden
        self.special += other.special
        self.loops += other.loops

    def skipped(
        self, empty_folders: Iterable[str] = (), left_out: Mapping[str, int] | None = None
    ) -> Skipped:
        """Return the skipped entries.

        Args:
            empty_folders: Folders in place of a class that hold no image.
            left_out: Folders that the user left out.
        """
        return Skipped(
            files=dict(sorted(self.files.items())),
            hidden=self.hidden,
            folders={**dict(sorted(self.system_folders.items())), **(left_out or {})},
            special=self.special,
            loops=self.loops,
            empty_folders=tuple(empty_folders),
        )


def list_images(folder: str) -> Listing:
    """Find image files below a folder by their extension.

    Links to files and folders are followed, except links to one of their own parent folders. A broken link is
    listed as `UNREADABLE`, so that the missing image is reported. `SYSTEM_FOLDERS`, names that start with a dot and
    files without an image extension are skipped and counted.

    Raises:
        SourceError: A folder can't be read.
    """
    listing = Listing()
    pending: list[_Folder] = [("", frozenset())]
    seen: dict[tuple[int, int], str] = {}
    while pending:
        prefix, ancestors = pending.pop()
        path = f"{folder}/{prefix}"
        try:
            status = os.stat(path)  # noqa: PTH116  # strings are faster than paths for large sets
            identity = (status.st_dev, status.st_ino)
            ancestors |= {identity}
            if (first := seen.setdefault(identity, prefix)) != prefix:
                listing.same.append((first.rstrip("/"), prefix.rstrip("/")))
            with os.scandir(path) as entries:
                pending += [(name, ancestors) for name in _collect(entries, prefix, ancestors, listing)]
        except OSError as error:
            raise SourceError(f"{path}: the folder can't be read: {error.strerror}") from error
        listing.folders.append(prefix)
    return listing


def list_names(names: Iterable[str], stats: Iterable[Stat]) -> Listing:
    """Return the images among paths with forward slashes, by the rules of `list_images`.

    Args:
        names: Paths below a folder, such as those of the members of an archive. One with a slash at its end is a folder.
        stats: Stat of each path.
    """
    listing, folders = Listing(), {""}
    readable = extensions()
    for name, stat in zip(names, stats, strict=True):
        *parents, own = name.split("/")
        above = {"/".join([*parents[:depth], ""]) for depth in range(1, len(parents) + 1)}
        if system := next((parent for parent in parents if parent.lower() in SYSTEM_FOLDERS), ""):
            listing.system_folders[system] = 1
        elif any(part.startswith(".") for part in (*parents, own)):
            listing.hidden += 1
        elif not own:
            folders |= above
        elif (extension := _extension(own)) not in readable:
            listing.files[extension] += 1
            folders |= above
        else:
            listing.paths.append(name)
            listing.stats.append(stat)
            folders |= above
    listing.folders += sorted(folders)
    return listing


def _collect(
    entries: Iterator[os.DirEntry[str]], prefix: str, ancestors: frozenset[tuple[int, int]], listing: Listing
) -> Iterator[str]:
    """Add the images of one folder to the listing and yield its subfolders."""
    readable = extensions()
    for entry in entries:
        name = entry.name
        folder = _is_folder(entry)
        if folder and name.lower() in SYSTEM_FOLDERS:
            listing.system_folders[name] += 1
        elif name.startswith("."):
            listing.hidden += 1
        elif folder:
            if entry.is_symlink() and _identity(entry) in ancestors:
                listing.loops += 1
            else:
                yield f"{prefix}{name}/"
        elif (extension := _extension(name)) not in readable:
            listing.files[extension] += 1
        elif stat := _entry_stat(entry):
            listing.paths.append(prefix + name)
            listing.stats.append(stat)
        else:
            listing.special += 1


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _identity(entry: os.DirEntry[str]) -> tuple[int, int]:
    status = entry.stat()
    return status.st_dev, status.st_ino


def _extension(name: str) -> str:
    """Return the extension of a file name in lower case, with the dot; empty without one."""
    dot = name.rfind(".")
    return name[dot:].lower() if dot >= 0 else ""


def _entry_stat(entry: os.DirEntry[str]) -> Stat | None:
    try:
        return regular_fields(entry.stat())
    except OSError:
        return UNREADABLE
