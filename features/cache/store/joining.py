"""Joining of cache files of one specification into one, with each image once."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from frostline.features.cache.file.mapped import MappedFile
from frostline.features.cache.file.partial import PartialFile, partial_path
from frostline.features.cache.reader import FeatureCache
from frostline.features.cache.writing.creation import create
from frostline.features.cache.writing.reuse import KnownRows
from frostline.features.cache.writing.writer import CacheWriter
from frostline.features.content import CONTENT_BYTES, as_keys
from frostline.features.table import OK, STAMP_BYTES, ImageSource, ImageTable


def content_table(content: NDArray[np.uint8]) -> ImageTable:
    """Return a table of images without labels that are named by their content.

    Args:
        content: (n, 16) uint8 digests of the images, ascending and unique.
    """
    n = len(content)
    stamps = np.zeros((n, STAMP_BYTES), np.uint8)
    stamps[:, STAMP_BYTES // 2 :] = content[:, : STAMP_BYTES // 2]
    return ImageTable(
        ids=np.array([row.hex() for row in map(bytes, content)], f"S{2 * CONTENT_BYTES}"),
        labels=np.full(n, -1, np.int64),
        classes=(),
        split=np.zeros(n, np.uint8),
        groups=np.zeros(n, "S1"),
        stamps=stamps,
    )


def join_files(path: Path, files: Sequence[MappedFile]) -> FeatureCache | None:
    """Write the undamaged features of files, finished or not, to one new cache.

    Args:
        path: Path of the new cache.
        files: Files of one specification. They are not changed.

    Returns:
        The new cache, which has each image once; None, and no file, if there is no undamaged feature.

    Raises:
        OSError: The disk is full, or another file operation failed.
    """
    rows = [_usable(file) for file in files]
    content = np.concatenate([file.array("content")[mine] for file, mine in zip(files, rows, strict=True)])
    _, first = np.unique(as_keys(content), return_index=True)
    if not len(first):
        return None
    which = np.repeat(np.arange(len(files)), [len(mine) for mine in rows])
    table = content_table(content[first])
    known = KnownRows(
        rows=np.arange(len(first)),
        files=files,
        file=which[first],
        origin=np.concatenate(rows)[first],
        stamps=table.stamps,
    )
    layouts = [files[index].layout for index in np.unique(known.file).tolist()]
    origin = replace(layouts[0].origin, created=min(layout.origin.created for layout in layouts))
    partial = PartialFile.acquire(partial_path(path))
    try:
        layout = create(partial.fd, partial.path, layouts[0].spec, table, origin)
    except BaseException:
        partial.discard_if_empty()
        raise
    source = _Stored(origin.source, table)
    with CacheWriter(path, partial, layout, np.zeros(layout.blocks, bool), source) as writer:
        writer.reuse(known)
        return writer.finish()


def _usable(file: MappedFile) -> NDArray[np.int64]:
    """Return the rows with features in blocks whose checksums are all correct."""
    return np.flatnonzero(file.rows_of(file.valid_blocks()) & (file.array("status") == OK))


class _Stored(ImageSource):
    """Images whose features are copied."""

    def __init__(self, root: str, table: ImageTable) -> None:
        self.root, self.table = root, table

    def read(self, row: int) -> tuple[bytes, bytes]:
        raise OSError(f"{self.table.ids[row]!r}: joining reads no images")
