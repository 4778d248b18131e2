"""Archives as image sources: tar and zip files, single ones and sets of shards."""

import errno
import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from frostline.features.errors import SourceError
from frostline.features.notes import SourceNotes
from frostline.features.sources.archives.members import Archive, ArchiveChangedError
from frostline.features.sources.archives.samples import Member, beside, read_samples
from frostline.features.sources.archives.shards import expand, is_pattern, shard_names, shard_splits
from frostline.features.sources.archives.tar import open_tar
from frostline.features.sources.archives.zip import open_zip
from frostline.features.sources.files import TICK_NS, absolute, make_table, stamps_of
from frostline.features.sources.folders.arrangement import Arrangement, arrange
from frostline.features.sources.folders.listing import Listing, list_names
from frostline.features.sources.kinds import SourceKind
from frostline.features.sources.manifests.columns import column_remarks
from frostline.features.sources.stats import stat_fields
from frostline.features.table import ImageSource, ImageTable
from frostline.shell import shell_command

_OPENERS: Final[Mapping[str, Callable[[str], Archive]]] = {".tar": open_tar, ".zip": open_zip}

_COMPRESSED: Final = {
    ".tar.gz": "gunzip -k",
    ".tgz": "gunzip -k",
    ".tar.bz2": "bunzip2 -k",
    ".tbz2": "bunzip2 -k",
    ".tar.xz": "unxz -k",
    ".txz": "unxz -k",
    ".tar.zst": "unzstd",
}
"""Command that uncompresses an archive, by the end of its name in lower case."""

_SUFFIXES: Final = (*_OPENERS, *_COMPRESSED)


class ArchiveSource(ImageSource):
    """Images in archives, each read by its place without unpacking.

    A stamp is that of the archive, with the size of the image. After an archive was changed or copied, its images are
    read again, and those with the same bytes are not computed again.

    Args:
        root: Archive or pattern that the user named, as an absolute path.
        table: The images. Their ids are their paths in the archive, after the name of the archive if there are several.
        members: Place of each image.
        changed: (n,) int64 time in nanoseconds of the last modification or status change of each image's archive.
        notes: How the images were listed, and which entries were skipped.
    """

    def __init__(
        self,
        root: str,
        table: ImageTable,
        members: Sequence[Member],
        changed: NDArray[np.int64],
        notes: SourceNotes,
    ) -> None:
        self.root, self.table, self.notes = root, table, notes
        self._members, self._changed = members, changed
        self._anew: dict[str, tuple[Archive, dict[str, int]]] = {}  # archives listed again, by path
        self._lock = threading.Lock()

    def read(self, row: int) -> tuple[bytes, bytes]:
        """Read one image's file; see `ImageSource.read`. An archive that has changed is listed again."""
        member = self._members[row]
        try:
            archive, index = self._current(member)
            data = archive.read(index)
        except ArchiveChangedError:
            archive, index = self._listed_again(member)
            data = archive.read(index)
        return data, stamps_of([archive.file_stat(index)]).tobytes()

    def display_name(self, row: int) -> str:
        """Return the path of the archive followed by the image's path in it."""
        return self._members[row].location

    def unsettled(self, since: int) -> NDArray[np.bool_]:
        """Return a mask of the images in archives modified too close to a time; see `ImageSource.unsettled`."""
        return np.asarray(self._changed > since - TICK_NS)

    def _current(self, member: Member) -> tuple[Archive, int]:
        path = member.archive.path
        if path not in self._anew:
            return member.archive, member.index
        archive, index = self._anew[path]
        if member.name not in index:
            raise FileNotFoundError(errno.ENOENT, "the archive no longer holds this file", member.location)
        return archive, index[member.name]

    def _listed_again(self, member: Member) -> tuple[Archive, int]:
        path = member.archive.path
        with self._lock:
            listed = self._anew[path][0] if path in self._anew else member.archive
            if stat_fields(os.stat(path)) != listed.stat:  # noqa: PTH116
                try:
                    archive = _open(path)
                except SourceError as error:
                    raise OSError(errno.EIO, str(error), member.location) from None
                self._anew[path] = archive, {name: index for index, name in enumerate(archive.names)}
        return self._current(member)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the lock, which can't be passed to worker processes."""
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Set the state of a copy in another process."""
        vars(self).update(state, _lock=threading.Lock())


@dataclass(frozen=True, eq=False)
class _Found:
    """Images found in archives.

    Attributes:
        listing: Path of each image without a folder that holds everything, and what was skipped.
        ids: Id of each image.
        members: Place of each image.
        shards: Index of each image's archive.
        remarks: Sentences on what the user should know.
    """

    listing: Listing
    ids: list[str]
    members: list[Member]
    shards: list[int]
    remarks: tuple[str, ...]


def open_archives(
    root: str,
    *,
    split_folders: Mapping[str, str] | Sequence[str] | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    group_column: str | None = None,
) -> ArchiveSource:
    """List the images of an archive, or of all archives that a pattern names.

    If there are ``.cls`` or ``.json`` files beside the images, as in the WebDataset format, these tell the labels; see
    `samples.read_samples`. Otherwise the folders in the archive tell them as those on a disk do; see
    `folders.arrangement.arrange`. A folder that holds everything else is left out of the paths. The images of several
    archives whose names all begin with a split, such as ``train-0001.tar``, have this split unless something else tells
    it.

    Args:
        root: Path of a ``.tar`` or ``.zip`` file; or a pattern, see `shards.expand`.
        split_folders: Split of each top-level folder in the archive; see `split_names.read_split_folders`.
        label_column: File beside the image (``cls`` or ``txt``) or key of its ``json`` with the label, or ``none``; by
            default ``cls``, else ``label``.
        split_column: The same for the split; by default ``split``.
        group_column: The same for the group; by default ``group``.

    Raises:
        OSError: An archive can't be read.
        SourceError: An archive is damaged or holds no image, or labels or splits are not clear.
    """
    root = absolute(root)
    paths = [root] if os.path.exists(root) else expand(root)  # noqa: PTH110
    archives = [_open(path) for path in paths]
    names = shard_names([archive.path for archive in archives])
    found = _find(archives, names)
    if not found.ids:
        skipped = found.listing.skipped().describe()
        raise SourceError(f"{root}: no image found" + (f", where {skipped} were skipped" if skipped else ""))
    others = beside(found.members)
    chosen = {"label": label_column, "split": split_column, "group": group_column}
    if any(chosen.values()) or any({"cls", "json"} & files.keys() for files in others):
        if split_folders is not None:
            raise SourceError(
                f"--split-folders: {root} has files beside its images that tell their labels; expected an archive in"
                " which folders tell them"
            )
        told = _by_samples(root, found, others, chosen)
    else:
        told = arrange(root, found.listing, split_folders, found.ids)
    table = _with_splits_of_shards(told.table, found, names)
    by_id = dict(zip(found.ids, found.members, strict=True))
    return ArchiveSource(
        root,
        table,
        [by_id[id_.decode()] for id_ in table.ids.tolist()],
        told.changed,
        replace(told.notes, remarks=(*told.notes.remarks, *found.remarks)),
    )


def is_archive(data: str) -> bool:
    """Return whether a text names an archive, or several."""
    return data.lower().endswith(_SUFFIXES) and (os.path.exists(data) or is_pattern(data))  # noqa: PTH110


ARCHIVE = SourceKind(
    f"an archive ending in {', '.join(_OPENERS)}, or a pattern such as 'shard-{{000..127}}.tar'",
    is_archive,
    open_archives,
    options=("split_folders", "label_column", "split_column", "group_column"),
)


def _open(path: str) -> Archive:
    for suffix, command in _COMPRESSED.items():
        if path.lower().endswith(suffix):
            raise SourceError(
                f"{path}: the archive is compressed as a whole, so its images can't be read one by one. Uncompress it"
                f" first: {shell_command(*command.split(), path)}"
            )
    suffix = PurePath(path).suffix.lower()
    if suffix not in _OPENERS:
        raise SourceError(f"{path}: expected an archive ending in {', '.join(_OPENERS)}")
    return _OPENERS[suffix](path)


def _find(archives: Sequence[Archive], names: Sequence[str]) -> _Found:
    whole, ids, members, shards = Listing(), [], [], []
    for shard, archive in enumerate(archives):
        listing = list_names(archive.names, map(archive.file_stat, range(len(archive.names))))
        index = {path: number for number, path in enumerate(archive.names)}
        members += [Member(archive, index[path]) for path in listing.paths]
        shards += [shard] * len(listing.paths)
        whole.paths += listing.paths
        whole.stats += listing.stats
        whole.folders = sorted({*whole.folders, *listing.folders})
        whole.add(listing)
    remarks = [f"{archive.path}: {remark}" for archive in archives for remark in archive.remarks()]
    if top := _top(whole.paths):
        whole.paths = [path.removeprefix(top) for path in whole.paths]
        whole.folders = [folder.removeprefix(top) for folder in whole.folders if folder.startswith(top)]
        remarks.append(f"all images lie in the folder {top.rstrip('/')!r}, which was left out of their paths")
    ids = [
        f"{names[shard]}/{path}" if names[shard] else path
        for shard, path in zip(shards, whole.paths, strict=True)
    ]
    return _Found(whole, ids, members, shards, tuple(remarks))


def _top(paths: Sequence[str]) -> str:
    """Return the folder that holds all images in sub-folders, such as ``photos/``; empty for none."""
    tops = {path.partition("/")[0] for path in paths}
    return f"{tops.pop()}/" if len(tops) == 1 and all(path.count("/") > 1 for path in paths) else ""


def _by_samples(
    root: str, found: _Found, others: Sequence[Mapping[str, Member]], chosen: Mapping[str, str | None]
) -> Arrangement:
    sheet = read_samples(root, found.members, others, chosen)
    labels, remarks = sheet.labels()
    table, changed = make_table(
        found.ids,
        found.listing.stats,
        labels=labels,
        split=sheet.splits(),
        groups=sheet.groups(),
        where=root,
    )
    notes = sheet.notes([*column_remarks(sheet.header, chosen, sheet.taken), *remarks])
    files = Counter(found.listing.files)
    for kind in {kind for files in others for kind in files}:
        del files[f".{kind}"]
    return Arrangement(table, changed, replace(notes, skipped=replace(found.listing, files=files).skipped()))


def _with_splits_of_shards(table: ImageTable, found: _Found, names: Sequence[str]) -> ImageTable:
    """Return the table with the splits that the names of the archives tell, unless it has splits."""
    splits = shard_splits(names)
    if splits is None or table.split.any():
        return table
    by_id = {id_.encode(): splits[shard] for id_, shard in zip(found.ids, found.shards, strict=True)}
    return replace(table, split=np.array([by_id[id_] for id_ in table.ids.tolist()], np.uint8))
