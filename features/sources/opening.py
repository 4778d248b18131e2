"""From what a user names to the source that reads it."""

import difflib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from frostline.features.errors import SourceError
from frostline.features.sources.files import FileSource
from frostline.features.sources.folder import open_folder
from frostline.features.sources.listing import list_images
from frostline.features.sources.manifest import SUFFIXES, open_manifest
from frostline.features.table import ImageSource, SourceRows


def open_source(data: str | Path, *, limit: int | None = None) -> ImageSource:
    """List the images of a folder or a manifest.

    Args:
        data: An image folder (``class/…``, ``train|val|test/class/…``, or just images), or a CSV, TSV or Parquet
            manifest (``path,label[,split][,group]``).
        limit: Keep at most this many images, evenly spaced over the sorted ids; the classes stay those of the whole.

    Raises:
        SourceError: `data` doesn't exist, holds no image, or can't be understood.
    """
    return limited(_open(Path(data)), limit)


def limited(source: ImageSource, limit: int | None) -> ImageSource:
    """Keep at most this many images of a source, evenly spaced over its rows; all of them where there is no limit.

    Raises:
        SourceError: The limit is less than 1.
    """
    if limit is not None and limit < 1:
        raise SourceError(f"limit: got {limit}, expected at least 1 image")
    if limit is None or limit >= len(source.table):
        return source
    return SourceRows(source, np.arange(limit) * len(source.table) // limit)


def _open(data: Path) -> FileSource:
    root = os.path.abspath(data)  # noqa: PTH100  # Path.absolute keeps "..", and resolve would rename a link
    if data.is_dir():
        return open_folder(root)
    if not data.exists():
        raise SourceError(_not_there(Path(root)))
    if data.suffix.lower() not in SUFFIXES:
        raise SourceError(f"{root}: expected an image folder, or a manifest ending in {', '.join(SUFFIXES)}")
    try:
        return open_manifest(root)
    except OSError as error:
        raise SourceError(f"{root}: the manifest can't be read: {error.strerror}") from error


def image_paths(paths: Sequence[str | Path]) -> list[Path]:
    """Image files, and those below folders, sorted within each folder.

    A file that is named is taken whatever its extension; in folders, the extension decides.

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
            raise SourceError(_not_there(path))
    return found


def _not_there(path: Path) -> str:
    """Name the first part of the path that doesn't exist, and what is there that looks like it."""
    missing = path
    while not missing.parent.exists():
        missing = missing.parent
    siblings = [sibling.name for sibling in missing.parent.iterdir()] if missing.parent.is_dir() else []
    close = difflib.get_close_matches(missing.name, siblings, n=1)
    hint = f"; did you mean {str(missing.parent / close[0])!r}?" if close else ""
    what = (
        "no such file or folder"
        if missing == path
        else f"no such file or folder, because {str(missing)!r} isn't there"
    )
    return f"{path}: {what}{hint}"
