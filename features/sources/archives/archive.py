"""Archives as image sources: tar and zip files, single ones and sets of shards."""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Final

from frostline.features.errors import SourceError
from frostline.features.sources.archives.samples import beside, read_samples
from frostline.features.sources.archives.tar import open_tar
from frostline.features.sources.archives.zip import open_zip
from frostline.features.sources.containers.container import Container, Member
from frostline.features.sources.containers.shards import expand, is_pattern, shard_names, splits_of_images
from frostline.features.sources.containers.source import ContainedSource, contained_source
from frostline.features.sources.files import absolute, make_table
from frostline.features.sources.folders.arrangement import Arrangement, arrange
from frostline.features.sources.folders.listing import Listing, list_names
from frostline.features.sources.kinds import SourceKind
from frostline.features.sources.manifests.columns import column_remarks
from frostline.features.sources.remote.urls import is_url, key_of
from frostline.shell import shell_command

_OPENERS: Final[Mapping[str, Callable[[str], Container]]] = {".tar": open_tar, ".zip": open_zip}

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
) -> ContainedSource:
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
    archives = [_open(path) for path in expand(root)]
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
    told = replace(told, notes=replace(told.notes, remarks=(*told.notes.remarks, *found.remarks)))
    return contained_source(root, told, found.ids, found.members, splits_of_images(names, found.shards))


def is_archive(data: str) -> bool:
    """Return whether a text names an archive, or several."""
    name = key_of(data) if is_url(data) else data
    known = is_url(data) or os.path.exists(data) or is_pattern(data)  # noqa: PTH110
    return name.lower().endswith(_SUFFIXES) and known


ARCHIVE = SourceKind(
    f"an archive ending in {', '.join(_OPENERS)}",
    is_archive,
    open_archives,
    options=("split_folders", "label_column", "split_column", "group_column"),
)


def _open(path: str) -> Container:
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


def _find(archives: Sequence[Container], names: Sequence[str]) -> _Found:
    whole, members, shards = Listing(), list[Member](), list[int]()
    for shard, archive in enumerate(archives):
        listing = list_names(archive.names, map(archive.file_stat, range(len(archive.names))))
        index = {path: number for number, path in enumerate(archive.names)}
        members += [Member(archive, index[path]) for path in listing.paths]
        shards += [shard] * len(listing.paths)
        whole.paths += listing.paths
        whole.stats += listing.stats
        whole.folders = sorted({*whole.folders, *listing.folders})
        whole.add(listing)
    remarks = [
        remark if len(archives) == 1 else f"{PurePath(archive.path).name}: {remark}"
        for archive in archives
        for remark in archive.remarks
    ]
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
        columns=sheet.side_columns,
        where=root,
    )
    notes = sheet.notes([*column_remarks(sheet.header, chosen, sheet.taken), *remarks])
    files = Counter(found.listing.files)
    for kind in {kind for files in others for kind in files}:
        del files[f".{kind}"]
    return Arrangement(table, changed, replace(notes, skipped=replace(found.listing, files=files).skipped()))
