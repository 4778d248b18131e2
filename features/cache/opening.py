"""Decide what there is to compute: nothing, the rest of an interrupted run, what is new, or everything."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from frostline.features.cache.earlier import Earlier
from frostline.features.cache.file.layout import BLOCK_ROWS, Layout, table_arrays, table_digest
from frostline.features.cache.file.mapped import MappedFile
from frostline.features.cache.file.part import Part, PartOf
from frostline.features.cache.file.partial import PartialFile, finished_name, partial_path
from frostline.features.cache.reader import FeatureCache
from frostline.features.cache.writing.creation import create
from frostline.features.cache.writing.reuse import Contents, find_known, is_current
from frostline.features.cache.writing.writer import CacheWriter
from frostline.features.errors import CacheFormatError, SourceError
from frostline.features.fidelity import Check
from frostline.features.spec import FeatureSpec
from frostline.features.table import ImageSource, SourceRows
from frostline.splits import SPLITS


def open_writer(
    path: str | Path,
    spec: FeatureSpec,
    source: ImageSource,
    *,
    part: Part | None = None,
    weights: str = "",
    check: Check | None = None,
    machine: str = "",
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> FeatureCache | CacheWriter:
    """Open the cache of an image set for writing, with all that is already known of it in place.

    A finished cache of the same specification and images is returned as it is; if nothing was touched, no image is
    read. Otherwise a writer is, whose `todo` are the rows to compute: an interrupted run goes on from its last
    committed block, and rows whose image bytes an earlier cache or interrupted run of the same specification has are
    copied, also between a cache and its parts. An earlier cache stays in place until the new one is complete.

    Args:
        path: The cache file; its folder is made if need be.
        spec: What the features depend on.
        source: The images.
        part: Write only this part of the cache, into a file of its own: `Part.path`. Where the whole cache is finished,
            it is returned.
        weights: What the user gave as the backbone's weights, kept beside the source for whoever uses the features.
        check: How far the engine's features are from the reference's, kept likewise.
        machine: What computes them, in words, kept likewise.
        overwrite: Replace a cache of another specification, or one that can't be read; and check every byte of one of
            this specification, to compute damaged rows again.
        progress: Called with (images read, images to read) while images are compared by their bytes.

    Raises:
        PartError: There are fewer blocks than parts.
        SourceError: There are no images, or their table is not in order.
        CacheMismatchError: A finished or unfinished cache of another specification is there.
        CacheFormatError: A file that is not a cache of this version is there.
        ChecksumError: The finished cache is damaged.
        CacheBusyError: Another process is writing it.
        OSError: The file system lacks the space, or something else went wrong there.
    """
    created = time.time_ns()
    path = Path(path).resolve()
    if finished_name(path.name) != path.name:
        raise CacheFormatError(f"{path}: such a name is for unfinished caches; choose another with --cache")
    _check_table(source)
    opening = _Opening(
        path=path,
        whole=path,
        spec=spec,
        source=source,
        weights=weights,
        check=check,
        machine=machine,
        overwrite=overwrite,
        created=created,
        part=None,
        progress=progress,
    )
    if part is not None:
        final = opening.earlier.final()
        if final and opening.is_complete(final):
            return final
        opening = opening.of_part(part)
    return opening.open()


@dataclass(frozen=True, eq=False)
class _Opening:
    """One call of `open_writer`."""

    path: Path
    whole: Path
    spec: FeatureSpec
    source: ImageSource
    weights: str
    check: Check | None
    machine: str
    overwrite: bool
    created: int
    part: PartOf | None
    progress: Callable[[int, int], None] | None

    @cached_property
    def digest(self) -> str:
        return table_digest(table_arrays(self.source.table))

    @cached_property
    def contents(self) -> Contents:
        return Contents(self.source, self.progress)

    @cached_property
    def earlier(self) -> Earlier:
        return Earlier(self.path, self.spec, self.overwrite)

    def of_part(self, part: Part) -> "_Opening":
        """The same for a part of the images."""
        rows = part.rows(len(self.source.table.ids), BLOCK_ROWS)
        return replace(
            self,
            path=part.path(self.path),
            source=SourceRows(self.source, rows),
            part=PartOf(part, self.digest),
        )

    def open(self) -> FeatureCache | CacheWriter:
        """The finished cache, or else a writer."""
        seen = _inode(self.path)
        final = self.earlier.final()
        if final and self.is_complete(final):
            return final
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = PartialFile.acquire(partial_path(self.path))
        try:
            if _inode(self.path) != seen:  # whoever held the lock until now has finished it
                final = self.earlier.final()
                if final and self.is_complete(final):
                    partial.discard_if_empty()
                    return final
            return self.begin(partial, final)
        except BaseException:
            partial.discard_if_empty()
            raise

    def is_complete(self, final: FeatureCache) -> bool:
        """Whether the finished cache is of these images, row for row, and there is nothing to do."""
        if not self.is_of_these(final.file) or (self.overwrite and not final.verify().ok):
            return False
        final.check_metadata()  # before any of it is believed
        return is_current(final.file, self.contents, np.arange(final.rows))

    def is_of_these(self, file: MappedFile) -> bool:
        """Whether a file was laid out for these images, as the same part of the same whole."""
        return file.layout.table_digest == self.digest and file.layout.part == self.part

    def begin(self, partial: PartialFile, final: FeatureCache | None) -> CacheWriter:
        """Lay out a cache, or go on with the unfinished one, and copy all that is known."""
        known = [final.file] if final else []
        known += self.earlier.salvages()
        resumed = self._resume(partial, known)
        layout = resumed[0] if resumed else self._create(partial)
        committed = resumed[1] if resumed else np.zeros(layout.blocks, bool)
        writer = CacheWriter(self.path, partial, layout, committed, self.source)
        try:
            known += self.earlier.relatives(self.whole)
            if known:
                writer.reuse(find_known(known, self.contents, writer.todo))
        except BaseException:
            writer.close()
            raise
        for file in known:  # some of them are to be replaced or deleted
            file.close()
        return writer

    def _resume(
        self, partial: PartialFile, known: list[MappedFile]
    ) -> tuple[Layout, NDArray[np.bool_]] | None:
        """Layout and valid blocks of the unfinished file, if it can be gone on with.

        Else it is cleared; or set aside, for its rows, and `known` has it, too.
        """
        unfinished = None if partial.is_empty() else self.earlier.unfinished(partial.path)
        if unfinished is None:
            partial.clear()
            return None
        valid = unfinished.valid_blocks()
        resumable = self._is_resumable(unfinished, valid)
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
        return create(
            partial.fd,
            partial.path,
            self.spec,
            self.source.table,
            source=self.source.root,
            weights=self.weights,
            check=self.check,
            machine=self.machine,
            created=self.created,
            part=self.part,
        )

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
            f"{source.root}: ids, labels, split, groups and stamps must be as many; got {counts}"
        )
    disorder = np.flatnonzero(table.ids[1:] <= table.ids[:-1])
    if len(disorder):
        first, second = table.ids[disorder[0] : disorder[0] + 2].tolist()
        raise SourceError(f"{source.root}: ids must ascend, each once; got {second!r} after {first!r}")
    if table.labels.min() < -1 or table.labels.max() >= len(table.classes):
        raise SourceError(f"{source.root}: labels must be -1 to {len(table.classes) - 1}, the last class")
    if table.split.max() >= len(SPLITS):
        raise SourceError(f"{source.root}: splits must be 0 to {len(SPLITS) - 1}; got {table.split.max()}")
