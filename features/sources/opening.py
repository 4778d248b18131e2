"""Opening of image sources by path or name."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from frostline.errors import one_line
from frostline.features.errors import SourceError
from frostline.features.images.unread import unread_formats
from frostline.features.notes import SourceNotes
from frostline.features.sources.containers.shards import is_pattern, plain_name
from frostline.features.sources.disk_names import on_disk
from frostline.features.sources.files import PathSource, absolute
from frostline.features.sources.folders.listing import Listing, list_images
from frostline.features.sources.kinds import SourceKind
from frostline.features.sources.remote.access import Access
from frostline.features.sources.remote.urls import host_of, is_url, name_of, shown, suffix_of
from frostline.features.table import ImageSource, SourceRows
from frostline.registry import Entry, Registry
from frostline.system.files import broken_link

_HERE = "frostline.features.sources"

SOURCES: Registry[SourceKind] = Registry(
    "image source",
    {
        "remote": Entry(f"{_HERE}.remote.remote:REMOTE"),
        "array": Entry(f"{_HERE}.arrays.array:ARRAY"),
        "folder": Entry(f"{_HERE}.folders.folder:FOLDER"),
        "table": Entry(f"{_HERE}.tables.table:TABLE"),
        "manifest": Entry(f"{_HERE}.manifests.manifest:MANIFEST"),
        "archive": Entry(f"{_HERE}.archives.archive:ARCHIVE"),
        "torchvision": Entry(f"{_HERE}.libraries.torchvision_sets:TORCHVISION"),
        "hugging-face": Entry(f"{_HERE}.libraries.hugging_face:HUGGING_FACE"),
    },
    group="frostline.image_sources",
    adopt=lambda _name, found: found if isinstance(found, SourceKind) else None,
    expected="a features.sources.SourceKind",
    error=SourceError,
)
"""Registry of image sources. The first kind that accepts the user's input opens it."""


def open_source(
    data: str | Path,
    *,
    limit: int | None = None,
    split_folders: Mapping[str, str] | Sequence[str] | None = None,
    path_column: str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    group_column: str | None = None,
    access: Access | None = None,
) -> ImageSource:
    """List the images of a folder, a manifest, or any input that a source of another package accepts.

    Args:
        data: Image folder (``class/…``, ``train|val|test/class/…``, or only images); manifest
            (``path,label[,split][,group]``); archive, table of images or array of images, or a pattern of their
            names; or the URL of one of these; see `SOURCES`.
        limit: Keep at most this many images, evenly spaced over the sorted ids. The classes are those of the whole
            source.
        split_folders: Split of each top-level folder: train, val, test, or ``skip`` to leave the folder out; or texts
            such as ``Training=train,Testing=test``. ``none`` alone says that these folders are classes. By default
            their names tell.
        path_column: Column of a manifest with the paths, by default ``path``; or of a table with the images.
        label_column: Column with the labels, or ``none``; by default ``label``.
        split_column: Column with the splits, or ``none``; by default ``split``.
        group_column: Column with the groups, or ``none``; by default ``group``.
        access: How remote images are read.

    Raises:
        SourceError: `data` doesn't exist, holds no image, or is not valid; or it has no use for an option.
    """
    options = {
        "split_folders": split_folders,
        "path_column": path_column,
        "label_column": label_column,
        "split_column": split_column,
        "group_column": group_column,
    }
    given = {name: value for name, value in options.items() if value is not None}
    named = str(data)
    return limited(open_named(named if is_url(named) else on_disk(named), given, access), limit)


def source_name(data: str | Path) -> str:
    """Return a name for what is made of an image source: that of its folder or file, without what a pattern leaves open."""
    if is_url(data):
        name = name_of(str(data))
        stem = Path(name).stem if suffix_of(str(data)) else name
        return (plain_name(stem) if is_pattern(stem) else stem) or host_of(str(data))
    data = Path(data)
    if data.is_dir():
        return data.name
    if data.exists() or not is_pattern(data.stem):
        return data.stem
    return plain_name(data.stem) or source_name(data.parent)


def limited(source: ImageSource, limit: int | None) -> ImageSource:
    """Return a source limited to a number of images, evenly spaced over its rows. None keeps all images.

    Raises:
        SourceError: The limit is less than 1.
    """
    if limit is not None and limit < 1:
        raise SourceError(f"limit: got {limit}, expected at least 1 image")
    if limit is None or limit >= len(source.table):
        return source
    return SourceRows(source, np.arange(limit) * len(source.table) // limit)


def find_kind(data: str) -> SourceKind | None:
    """Return the first kind of source that accepts the user's input, or None.

    Raises:
        SourceError: The kind of another package is broken.
    """
    name = _kind_name(data)
    return None if name is None else SOURCES[name]


def _kind_name(data: str) -> str | None:
    return next((name for name in SOURCES if SOURCES[name].accepts(data)), None)


def open_named(data: str, options: Mapping[str, Any], access: Access | None = None) -> ImageSource:
    """List the images of the first kind of source that accepts the user's input.

    Args:
        data: The user's input.
        options: Options of `open_source`, those that were given.
        access: How remote images are read.

    Raises:
        SourceError: No kind accepts the input; it can't be read, or has no use for an option.
    """
    name = _kind_name(data)
    if name is None:
        raise SourceError(_unknown_source(data))
    takes = SOURCES[name].options
    check_options(data, SOURCES[name].expects, takes, options)
    if access and access.byte_cache and "access" not in takes:
        raise SourceError(f"--byte-cache: {data} is {SOURCES[name].expects}, and this option is for URLs")
    try:
        source = SOURCES[name].open(data, **options, **({"access": access} if "access" in takes else {}))
    except OSError as error:
        what = f"{shown(data)}:" if is_url(data) else f"{data}: the {name}"
        named = error.filename if isinstance(error.filename, str) else ""
        which = f"{named}: " if named and named not in {absolute(data), shown(data)} else ""
        raise SourceError(f"{what} can't be read: {which}{error.strerror or one_line(error)}") from error
    if options:
        source.notes = replace(source.notes, options=options)
    return source


def check_options(data: str, expects: str, takes: Sequence[str], options: Mapping[str, Any]) -> None:
    """Raise `SourceError` for an option that a kind of source does not take.

    Args:
        data: What the user named.
        expects: Description of the kind.
        takes: Names of the options that it takes.
        options: Options that were given.
    """
    for option in options:
        if option not in takes:
            known = [kind for kind in SOURCES if option in SOURCES[kind].options and kind != "remote"]
            raise SourceError(
                f"--{option.replace('_', '-')}: {data} is {expects}, and this option is for"
                f" {', or '.join(SOURCES[kind].expects for kind in known)}"
            )


def _unknown_source(data: str) -> str:
    path = Path(absolute(data))
    if not path.exists():
        return _missing_path(path)
    return f"{path}: expected {', or '.join(SOURCES[name].expects for name in SOURCES)}"


def open_paths(paths: Sequence[str | Path], access: Access | None = None) -> ImageSource:
    """Return the named image files and the image files below the named folders, sorted within each folder.

    A named file is accepted with any extension. Folders are searched by extension.

    Args:
        paths: Paths and URLs.
        access: How remote images are read.

    Raises:
        SourceError: A path doesn't exist, or a folder has no image in it.
    """
    if any(is_url(path) for path in paths):
        from frostline.features.sources.remote.named import named_source

        return named_source([str(path) for path in paths], access or Access())
    if access and access.byte_cache:
        raise SourceError("--byte-cache: no image is named by a URL, and this option is for URLs")
    found: list[Path] = []
    whole = Listing()
    for path in (Path(on_disk(str(path))) for path in paths):
        if path.is_dir():
            listing = list_images(str(path))
            whole.add(listing)
            if not listing.paths:
                raise SourceError(
                    ". ".join([f"{path}: no image found in this folder", *unread_formats(listing.files)])
                )
            found += [path / name for name in sorted(listing.paths)]
        elif path.exists():
            found.append(path)
        else:
            raise SourceError(_missing_path(path))
    return PathSource(found, SourceNotes(skipped=whole.skipped(), remarks=tuple(unread_formats(whole.files))))


def _missing_path(path: Path) -> str:
    """Return a message with the first missing part of a path and an existing name similar to it."""
    missing = path
    while not missing.parent.exists():
        missing = missing.parent
    if why := broken_link(missing):
        return f"{missing} {why}"
    siblings = [sibling.name for sibling in missing.parent.iterdir()] if missing.parent.is_dir() else []
    close = difflib.get_close_matches(missing.name, siblings, n=1)
    hint = f"; did you mean {str(missing.parent / close[0])!r}?" if close else ""
    what = (
        "no such file or folder"
        if missing == path
        else f"no such file or folder, because {str(missing)!r} doesn't exist"
    )
    return f"{path}: {what}{hint}"
