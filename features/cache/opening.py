"""Decide what there is to compute: nothing, the rest of an interrupted run, what is new, or everything."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from features.cache.creation import create
from features.cache.layout import Layout, table_arrays, table_digest
from features.cache.mapped import MappedFile
from features.cache.partial import PartialFile, finished_name, partial_path, salvage_paths
from features.cache.reader import FeatureCache
from features.cache.reuse import Contents, find_known, is_current
from features.cache.trust import NewerFormatError
from features.cache.writer import CacheWriter
from features.errors import CacheFormatError, CacheMismatchError, ChecksumError, SourceError
from features.spec import FeatureSpec
from features.table import SPLITS, ImageSource

__all__ = ["open_writer"]

_log = logging.getLogger(__name__)


def open_writer(
    path: str | Path,
    spec: FeatureSpec,
    source: ImageSource,
    *,
    weights: str = "",
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> FeatureCache | CacheWriter:
    """Open the cache of an image set for writing, with all that is already known of it in place.

    A finished cache of the same specification and images is returned as it is; if nothing was touched, no image is
    read. Otherwise a writer is, whose `todo` are the rows to compute: an interrupted run goes on from its last
    committed block, and rows whose image bytes an earlier cache or interrupted run of the same specification has are
    copied. An earlier cache stays in place until the new one is complete.

    Args:
        path: The cache file; its folder is made if need be.
        spec: What the features depend on.
        source: The images.
        weights: What the user gave as the backbone's weights, kept beside the source for whoever uses the features.
        overwrite: Replace a cache of another specification, or one that can't be read; and check every byte of one of
            this specification, to compute damaged rows again.
        progress: Called with (images read, images to read) while images are compared by their bytes.

    Raises:
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
        spec=spec,
        source=source,
        weights=weights,
        overwrite=overwrite,
        created=created,
        digest=table_digest(table_arrays(source.table)),
        contents=Contents(source, progress),
    )
    seen = _inode(path)
    final = opening.find_final()
    if final and opening.is_complete(final):
        return final
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = PartialFile.acquire(partial_path(path))
    try:
        if _inode(path) != seen:  # whoever held the lock until now has finished it
            final = opening.find_final()
            if final and opening.is_complete(final):
                partial.discard_if_empty()
                return final
        return opening.begin(partial, final)
    except BaseException:
        partial.discard_if_empty()
        raise


@dataclass(frozen=True, eq=False)
class _Opening:
    """One call of `open_writer`."""

    path: Path
    spec: FeatureSpec
    source: ImageSource
    weights: str
    overwrite: bool
    created: int
    digest: str
    contents: Contents

    def find_final(self) -> FeatureCache | None:
        """The finished cache, if there is one of this specification."""
        if not self.path.exists():
            return None
        try:
            final = FeatureCache.open(self.path)
        except (CacheFormatError, ChecksumError) as error:
            if self.overwrite:
                return None
            error.add_note(
                f"{self.path} is left as it is; name another file with --cache, or replace it with --overwrite"
            )
            raise
        if final.key == self.spec.digest:
            return final
        if self.overwrite:
            return None
        raise CacheMismatchError(self._mismatch(final.path, final.spec, "a cache"))

    def is_complete(self, final: FeatureCache) -> bool:
        """Whether the finished cache is of these images, row for row, and there is nothing to do."""
        if final.file.layout.table_digest != self.digest or (self.overwrite and not final.verify().ok):
            return False
        final.check_metadata()  # before any of it is believed
        return is_current(final.file, self.contents, self.source.table, np.arange(final.rows))

    def begin(self, partial: PartialFile, final: FeatureCache | None) -> CacheWriter:
        """Lay out a cache, or go on with the unfinished one, and copy all that is known."""
        earlier = [final.file] if final else []
        earlier += [file for path in salvage_paths(self.path) if (file := self._open_unfinished(path))]
        layout, committed = None, None
        if not partial.is_empty():
            unfinished = self._open_unfinished(partial.path)
            valid = unfinished.valid_blocks() if unfinished else np.zeros(0, bool)
            if unfinished and self._is_resumable(unfinished, valid):
                layout, committed = unfinished.layout, valid
            elif unfinished and valid.any():
                partial.set_aside(self.path)
                earlier.append(unfinished)
            else:
                partial.clear()
        if layout is None or committed is None:
            layout = self._create(partial)
            committed = np.zeros(layout.blocks, bool)
        writer = CacheWriter(self.path, partial, layout, committed)
        try:
            if earlier:
                writer.reuse(find_known(earlier, self.contents, self.source.table, writer.todo))
        except BaseException:
            writer.close()
            raise
        return writer

    def _create(self, partial: PartialFile) -> Layout:
        return create(
            partial.fd,
            partial.path,
            self.spec,
            self.source.table,
            source=self.source.root,
            weights=self.weights,
            created=self.created,
        )

    def _open_unfinished(self, path: Path) -> MappedFile | None:
        """A partial or salvaged file, if it can be trusted and is of this specification."""
        try:
            file = MappedFile.open(path)
        except NewerFormatError:
            if self.overwrite:
                return None
            raise
        except (CacheFormatError, ChecksumError) as error:
            _log.warning("%s; nothing in it can be trusted, so its rows are computed again", error)
            return None
        if file.layout.spec.digest == self.spec.digest:
            return file
        if self.overwrite or not file.committed().any():
            return None
        raise CacheMismatchError(self._mismatch(path, file.layout.spec, "an unfinished cache"))

    def _is_resumable(self, file: MappedFile, valid: NDArray[np.bool_]) -> bool:
        rows = np.flatnonzero(file.rows_of(valid))
        return file.layout.table_digest == self.digest and is_current(
            file, self.contents, self.source.table, rows
        )

    def _mismatch(self, path: Path, theirs: FeatureSpec, what: str) -> str:
        fields = "".join(
            f"\n  {name}: {ours!r} now, {other!r} in the file"
            for name, ours, other in self.spec.differences(theirs)
        )
        return (
            f"{path}: {what} of another specification is there; it differs in{fields}\n"
            "Name another file with --cache, or replace this one with --overwrite"
        )


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
    counts = {len(table.ids), len(table.labels), len(table.split), len(table.groups), len(table.stat)}
    if len(counts) > 1:
        raise SourceError(f"{source.root}: ids, labels, split, groups and stat must be as many; got {counts}")
    disorder = np.flatnonzero(table.ids[1:] <= table.ids[:-1])
    if len(disorder):
        first, second = table.ids[disorder[0] : disorder[0] + 2].tolist()
        raise SourceError(f"{source.root}: ids must ascend, each once; got {second!r} after {first!r}")
    if table.labels.min() < -1 or table.labels.max() >= len(table.classes):
        raise SourceError(f"{source.root}: labels must be -1 to {len(table.classes) - 1}, the last class")
    if table.split.max() >= len(SPLITS):
        raise SourceError(f"{source.root}: splits must be 0 to {len(SPLITS) - 1}; got {table.split.max()}")
