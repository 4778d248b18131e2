"""Opening of image sources by path or name."""

import difflib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from frostline.features.errors import SourceError
from frostline.features.sources.files import absolute
from frostline.features.sources.kinds import SourceKind
from frostline.features.sources.listing import list_images
from frostline.features.table import ImageSource, SourceRows
from frostline.registry import Entry, Registry

_HERE = "frostline.features.sources"

SOURCES: Registry[SourceKind] = Registry(
    "image source",
    {
        "folder": Entry(f"{_HERE}.folder:FOLDER"),
        "manifest": Entry(f"{_HERE}.manifest:MANIFEST"),
    },
    group="frostline.image_sources",
    adopt=lambda _name, found: found if isinstance(found, SourceKind) else None,
    expected="a features.sources.SourceKind",
    error=SourceError,
)
"""Registry of image sources. The first kind that accepts the user's input opens it."""


def open_source(data: str | Path, *, limit: int | None = None) -> ImageSource:
    """List the images of a folder, a manifest, or any input that a source of another package accepts.

    Args:
        data: Image folder (``class/…``, ``train|val|test/class/…``, or only images), or a CSV, TSV or Parquet
            manifest (``path,label[,split][,group]``); see `SOURCES`.
        limit: Keep at most this many images, evenly spaced over the sorted ids. The classes are those of the whole
            source.

    Raises:
        SourceError: `data` doesn't exist, holds no image, or is not valid.
    """
    return limited(_open(str(data)), limit)


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


def _open(data: str) -> ImageSource:
    name = _kind_name(data)
    if name is None:
        raise SourceError(_unknown_source(data))
    try:
        return SOURCES[name].open(data)
    except OSError as error:
        raise SourceError(f"{data}: the {name} can't be read: {error.strerror or error}") from error


def _unknown_source(data: str) -> str:
    path = Path(absolute(data))
    if not path.exists():
        return _missing_path(path)
    return f"{path}: expected {', or '.join(SOURCES[name].expects for name in SOURCES)}"


def image_paths(paths: Sequence[str | Path]) -> list[Path]:
    """Return the named image files and the image files below the named folders, sorted within each folder.

    A named file is accepted with any extension. Folders are searched by extension.

    Raises:
        SourceError: A path doesn't exist, or a folder has no image in it.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            below = sorted(list_images(str(path)).paths)
            if not below:
                raise SourceError(f"{path}: no image found in this folder")
            found += [path / name for name in below]
        elif path.exists():
            found.append(path)
        else:
            raise SourceError(_missing_path(path))
    return found


def _missing_path(path: Path) -> str:
    """Return a message with the first missing part of a path and an existing name similar to it."""
    missing = path
    while not missing.parent.exists():
        missing = missing.parent
    siblings = [sibling.name for sibling in missing.parent.iterdir()] if missing.parent.is_dir() else []
    close = difflib.get_close_matches(missing.name, siblings, n=1)
    hint = f"; did you mean {str(missing.parent / close[0])!r}?" if close else ""
    what = (
        "no such file or folder"
        if missing == path
        else f"no such file or folder, because {str(missing)!r} doesn't exist"
    )
    return f"{path}: {what}{hint}"
