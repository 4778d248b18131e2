"""Opening of a cache for writing: finds the rows that earlier files already hold, and those left to compute."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from frostline.features.cache.earlier_files import EarlierFiles, check_source
from frostline.features.cache.file.layout import BLOCK_ROWS, Layout, Origin, table_arrays, table_digest
from frostline.features.cache.file.mapped import MappedFile
from frostline.features.cache.file.part import Part, PartOf
from frostline.features.cache.file.partial import PartialFile, finished_name, partial_path
from frostline.features.cache.reader import FeatureCache
from frostline.features.cache.writing.creation import create
from frostline.features.cache.writing.reuse import Contents, compare_images, find_reusable, is_current
from frostline.features.cache.writing.writer import CacheWriter
from frostline.features.errors import CacheFormatError, SourceError
from frostline.features.fidelity import Check
from frostline.features.spec import FeatureSpec
from frostline.features.table import ImageSource, SourceRows
from frostline.splits import SPLITS
from frostline.system.files import resolved


def open_writer(
    path: str | Path,
    spec: FeatureSpec,
    source: ImageSource,
    *,
    part: Part | None = None,
    weights: str = "",
    weights_note: str = "",
    check: Check | None = None,
    machine: str = "",
    overwrite: bool = False,
    rehash: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> FeatureCache | CacheWriter:
    """Open the cache of an image set for writing, and copy all rows that earlier files already hold.

    A finished cache of the same specification and images is returned directly. If no image changed, none is read.
    Otherwise a writer is returned, whose `todo` lists the rows to compute. An interrupted run continues from its
    last committed block. Rows are copied from an earlier cache or interrupted run of the same specification if
    their image bytes are equal, also between a cache and its parts. An earlier cache stays in place until the new
    one is complete.

    Args:
        path: Path of the cache file. Its folder is created if missing.
        spec: Specification of the features.
        source: Source of the images.
        part: Part of the cache to write into a separate file, `Part.path`. If the whole cache is finished, it is
            returned.
        weights: Weights that the user chose for the backbone, stored in the header.
        weights_note: How the weights were read and what was assumed, stored in the header.
        check: Comparison of the engine's features with the reference's, stored in the header.
        machine: Description of the machine, stored in the header.
        overwrite: Whether to replace a cache of another specification or data set, or an unreadable one, and to
            verify every byte of a cache of this specification, so that damaged rows are recomputed. Implies `rehash`.
        rehash: Whether to read every image and compare its bytes, whatever its stamp says.
        progress: Function called with (images read, images to read) while images are compared by their bytes.

    Returns:
        The finished cache, or a writer.

    Raises:
        PartError: The cache has fewer blocks than parts.
        SourceError: The source has no images, or its table is not valid.
        CacheMismatchError: The path holds a finished or unfinished cache of another specification or data set.
        CacheFormatError: The path holds a file that is not a cache of this version.
        ChecksumError: The finished cache is damaged.
        CacheBusyError: Another process is writing the cache.
        OSError: The disk is full, or another file operation failed.
    """
    created = time.time_ns()
    path = resolved(path)
    if finished_name(path.name) != path.name:
        raise CacheFormatError(
            f"{path}: this name is reserved for unfinished caches; choose another with --cache"
        )
    check_apart(path, source.root)
    _check_table(source)
    opening = _Opening(
        path=path,
        whole=path,
        spec=spec,
        source=source,
        origin=Origin(source.root, created, weights, weights_note, check, machine, source.notes),
        overwrite=overwrite,
        rehash=rehash or overwrite,
        part=None,
        progress=progress,
    )
    if part is not None:
        final = opening.earlier.final()
        if final and opening.is_complete(final):
            return final
        opening = opening.of_part(part)
    return opening.open()


def check_apart(path: Path, data: str) -> None:
    """Raise `CacheFormatError` if a cache would replace the file that its images or vectors are read from.

    Args:
        path: Resolved path of the cache.
        data: What the user named; it need not be a path.
    """
    try:
        same = path.samefile(data) and path.is_file()
    except (OSError, ValueError):  # one of them does not exist, or is no path
        return
    if same:
        raise CacheFormatError(
            f"{path}: this file holds the data that the cache is made of, and is never replaced; choose another path for"
            " the cache"
        )


@dataclass(frozen=True, eq=False)
class _Opening:
    """State of one call of `open_writer`."""

    path: Path
    whole: Path
    spec: FeatureSpec
    source: ImageSource
    origin: Origin
    overwrite: bool
    rehash: bool
    part: PartOf | None
    progress: Callable[[int, int], None] | None

    @cached_property
    def digest(self) -> str:
        return table_digest(table_arrays(self.source.table))

    @cached_property
    def contents(self) -> Contents:
        return Contents(self.source, rehash=self.rehash, progress=self.progress)

    @cached_property
    def earlier(self) -> EarlierFiles:
        return EarlierFiles(self.path, self.spec, self.overwrite)

    def of_part(self, part: Part) -> "_Opening":
        """Return the state for a part of the images."""
        rows = part.rows(len(self.source.table.ids), BLOCK_ROWS)
        return replace(
            self,
            path=part.path(self.path),
            source=SourceRows(self.source, rows),
            part=PartOf(part, self.digest),
        )

    def open(self) -> FeatureCache | CacheWriter:
        """Return the finished cache, or else a writer."""
        seen = _inode(self.path)
        final, complete = self.finished()
        if final and complete:
            return final
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = PartialFile.acquire(partial_path(self.path))
        try:
            if _inode(self.path) != seen:  # another process finished the cache before this one got the lock
                final, complete = self.finished()
                if final and complete:
                    partial.discard_if_empty()
                    return final
            return self.begin(partial, final)
        except BaseException:
            partial.discard_if_empty()
            raise

    def finished(self) -> tuple[FeatureCache | None, bool]:
        """Return the finished cache, if any, and whether it is complete. Refuse one of another data set."""
        final = self.earlier.final()
        complete = final is not None and self.is_complete(final)
        if final and not complete:
            self.check_source(final.file)
        return final, complete

    def is_complete(self, final: FeatureCache) -> bool:
        """Return whether the finished cache holds exactly these images and all rows are current."""
        if not self.is_of_these(final.file) or (self.overwrite and not final.verify().ok):
            return False
        final.check_metadata()  # verify it before using it
        return is_current(final.file, self.contents, np.arange(final.rows))

    def is_of_these(self, file: MappedFile) -> bool:
        """Return whether a file was laid out for these images, as the same part of the same cache."""
        return file.layout.table_digest == self.digest and file.layout.part == self.part

    def check_source(self, file: MappedFile) -> None:
        """Refuse to replace a file of another data set, unless it may be overwritten."""
        if not self.overwrite:
            check_source(file, self.source.root, lambda: compare_images(file, self.contents))

    def begin(self, partial: PartialFile, final: FeatureCache | None) -> CacheWriter:
        """Create a cache or resume the unfinished one, copy all known rows, and return the writer."""
        copies = not self.spec.is_imported  # which are read again faster than images are compared
        known = [final.file] if final and copies else []
        known += self.earlier.salvages() if copies else []
        resumed = self._resume(partial, known)
        layout = resumed[0] if resumed else self._create(partial)
        committed = resumed[1] if resumed else np.zeros(layout.blocks, bool)
        writer = CacheWriter(self.path, partial, layout, committed, self.source)
        try:
            known += self.earlier.relatives(self.whole) if copies else []
            if known:
                writer.reuse(find_reusable(known, self.contents, writer.todo))
        except BaseException:
            writer.close()
            raise
        for file in [*known, *([final.file] if final else [])]:  # some of them will be replaced or deleted
            file.close()
        return writer

    def _resume(
        self, partial: PartialFile, known: list[MappedFile]
    ) -> tuple[Layout, NDArray[np.bool_]] | None:
        """Return layout and valid blocks of the unfinished file, or None if it can't be resumed.

        A file that can't be resumed is cleared. If it has valid rows, it is set aside instead and added to `known`.
        """
        unfinished = None if partial.is_empty() else self.earlier.unfinished(partial.path)
        if unfinished is None:
            partial.clear()
            return None
        valid = unfinished.valid_blocks()
        resumable = self._is_resumable(unfinished, valid)
        if valid.any() and not resumable:
            self.check_source(unfinished)
            valid &= not self.spec.is_imported
        unfinished.close()
        if resumable:
            return unfinished.layout, valid
        if valid.any():
            salvage = self.earlier.unfinished(partial.set_aside(self.path))
            known += [salvage] if salvage else []
        else:
            partial.clear()
        return None

    def _create(self, partial: PartialFile) -> Layout:
        return create(partial.fd, partial.path, self.spec, self.source.table, self.origin, part=self.part)

    def _is_resumable(self, file: MappedFile, valid: NDArray[np.bool_]) -> bool:
        rows = np.flatnonzero(file.rows_of(valid))
        return self.is_of_these(file) and is_current(file, self.contents, rows)


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_mtime_ns


def _check_table(source: ImageSource) -> None:
    table = source.table
    if not len(table.ids):
        raise SourceError(f"{source.root}: no images; expected one or more")
    counts = {len(table.ids), len(table.labels), len(table.split), len(table.groups), len(table.stamps)}
    if len(counts) > 1:
        raise SourceError(
            f"{source.root}: ids, labels, split, groups and stamps must have the same length; got {sorted(counts)}"
        )
    disorder = np.flatnonzero(table.ids[1:] <= table.ids[:-1])
    if len(disorder):
        first, second = table.ids[disorder[0] : disorder[0] + 2].tolist()
        raise SourceError(f"{source.root}: ids must be unique and ascending; got {second!r} after {first!r}")
    if table.labels.min() < -1 or table.labels.max() >= len(table.classes):
        raise SourceError(f"{source.root}: labels must be -1 to {len(table.classes) - 1}, the last class")
    if table.split.max() >= len(SPLITS):
        raise SourceError(f"{source.root}: splits must be 0 to {len(SPLITS) - 1}; got {table.split.max()}")
