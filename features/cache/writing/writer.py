"""Write a cache: rows in any order, committed by blocks, complete or resumable whatever happens."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial as bind
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from frostline.features.cache.file.encoding import encode_rows
from frostline.features.cache.file.layout import (
    MEASURED,
    METADATA,
    Layout,
    feature_name,
    row_schema,
    stored_stamps,
)
from frostline.features.cache.file.partial import PartialFile
from frostline.features.cache.reader import FeatureCache
from frostline.features.cache.writing.commit import Committer, Rows
from frostline.features.cache.writing.reuse import Known
from frostline.features.content import CONTENT_BYTES
from frostline.features.table import FAILED, OK, STAMP_BYTES, ImageSource


class CacheWriter:
    """The one writer of an unfinished cache; made by `open_writer`.

    Rows are written in the background, and committed by blocks: whatever ends the process, the next one goes on from
    the last committed block. Use it as a context manager, or `close` it. It is for one thread.

    Attributes:
        path: Where the cache will be.
        partial_path: Where it is until it is complete.
        rows: Images in it.
        block_rows: Rows that are committed together.
        copied: Rows that an earlier file had.
        resumed: Rows that an earlier, interrupted run had committed to this one.
        todo: (k,) int64 rows to compute, ascending.
        source: Its images, row for row.
    """

    def __init__(
        self,
        path: Path,
        partial: PartialFile,
        layout: Layout,
        committed: NDArray[np.bool_],
        source: ImageSource,
    ) -> None:
        self.path, self.partial_path = path, partial.path
        self.source = source
        self.rows, self.block_rows = layout.rows, layout.block_rows
        self._partial, self._layout = partial, layout
        self._missing = ~np.repeat(committed, layout.block_rows)[: layout.rows]
        self.copied, self.resumed = 0, int((~self._missing).sum())
        self.todo = np.flatnonzero(self._missing)
        self._committer = Committer(partial.fd, layout, committed)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def put(
        self,
        rows: NDArray[np.int64],
        features: Mapping[str, NDArray[np.float32]],
        *,
        content: NDArray[np.uint8],
        stamps: NDArray[np.uint8],
        status: NDArray[np.uint8],
        errors: Sequence[str],
        seconds: float = 0.0,
        joules: float = 0.0,
    ) -> None:
        """Hand over computed rows; any number, in any order, each once. The arrays may be reused afterwards.

        A good row that the file's number format can't hold (not finite, or beyond float16) is recorded as failed.

        Args:
            rows: (k,) int64, out of `todo`.
            features: (k, views, dim) float32 for each layer's key; whatever it may be where a row failed.
            content: (k, 16) uint8 from `file_content`; zero where an image could not be read.
            stamps: (k, 16) uint8 stamp of each image when it was read.
            status: (k,) uint8: 1 ok, 2 failed.
            errors: k reasons, "" where a row is ok.
            seconds: Wall time that these rows took together; 0 where it is not known.
            joules: Energy that they took together; likewise.

        Raises:
            ValueError: An array of another shape, or a row that is not to be computed or was put before.
            OSError: Writing failed, now or in the background before. What was committed is kept.
        """
        spec = self._layout.spec
        rows = np.asarray(rows, np.int64)
        self._check_rows(rows)
        _check_keys(features, [layer.key for layer in spec.layers])
        for layer in spec.layers:
            _check_shape(layer.key, np.shape(features[layer.key]), (len(rows), spec.views, layer.dim))
        _check_shape("content", np.shape(content), (len(rows), CONTENT_BYTES))
        _check_shape("stamps", np.shape(stamps), (len(rows), STAMP_BYTES))
        _check_shape("status", np.shape(status), (len(rows),))
        _check_shape("errors", (len(errors),), (len(rows),))
        if not np.isin(status, (OK, FAILED)).all():
            raise ValueError(f"status is {status}; expected {OK} (ok) or {FAILED} (failed) for each row")
        order = np.argsort(rows)
        # Indexing by an array copies, so that the caller may use its arrays again while the thread encodes these.
        encode = bind(
            encode_rows,
            spec,
            {key: np.asarray(values, np.float32)[order] for key, values in features.items()},
            content=np.asarray(content, np.uint8)[order],
            stamps=np.asarray(stamps, np.uint8)[order],
            status=np.asarray(status, np.uint8)[order],
            errors=[errors[index] for index in order.tolist()] if any(errors) else [""] * len(rows),
        )
        ascending = rows[order]
        measured = {
            name: np.full(len(rows), total / max(len(rows), 1), "<f4")
            for name, total in zip(MEASURED, (seconds, joules), strict=True)
            if name in self._layout.extents
        }
        self._committer.submit(lambda: Rows(ascending, encode() | measured))
        self._missing[rows] = False

    def reuse(self, known: Known) -> None:
        """Copy rows that earlier files have, except where their checksums are wrong; `open_writer` does this."""
        for part in _by_block(known, self.block_rows):
            copied = _gather(self._layout, part)
            self._committer.submit(copied.itself)
            self._missing[copied.rows] = False
            self.copied += len(copied.rows)
        self.todo = np.flatnonzero(self._missing)

    def finish(self) -> FeatureCache:
        """Put the complete file in its place, on the disk for good, and open it.

        Raises:
            RuntimeError: Rows are missing; the message says which.
            OSError: Writing failed, or a program keeps the old file open (Windows). What was committed is kept.
        """
        self._committer.flush()
        missing = np.flatnonzero(self._missing)
        if len(missing):
            raise RuntimeError(
                f"{self.partial_path}: {len(missing)} of {self.rows} rows are missing, the first is {missing[0]}; "
                "put them, or close the writer and resume later"
            )
        self._committer.stop()
        self._partial.put_in_place(self.path)
        return FeatureCache.open(self.path)

    def close(self) -> None:
        """Commit the blocks that are whole and let go of the file, which stays for the next run to go on from.

        Raises:
            OSError: Writing failed. What was committed is kept.
        """
        self._committer.stop()
        try:
            self._committer.flush()
        finally:
            self._let_go()

    def _let_go(self) -> None:
        if self._partial.fd >= 0 and not self._committer.committed.any():
            self._partial.delete()  # nothing to resume, and much space reserved
        self._partial.release()

    def _check_rows(self, rows: NDArray[np.int64]) -> None:
        wrong = (rows < 0) | (rows >= self.rows)
        wrong[~wrong] = ~self._missing[rows[~wrong]]
        if wrong.any():
            raise ValueError(f"rows {rows[wrong][:5].tolist()} are not in the cache, or are there already")
        if len(np.unique(rows)) < len(rows):
            raise ValueError(f"rows {rows.tolist()} hold one of them twice")


def _check_keys(features: Mapping[str, object], expected: Sequence[str]) -> None:
    if sorted(features) != sorted(expected):
        raise ValueError(f"got features of {', '.join(features)}; expected {', '.join(expected)}")


def _check_shape(name: str, got: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if got != expected:
        raise ValueError(f"{name} has shape {got}; expected {expected}")


def _by_block(known: Known, block_rows: int) -> Iterator[Known]:
    edges = np.flatnonzero(np.diff(known.rows // block_rows)) + 1
    for start, stop in pairwise([0, *edges.tolist(), len(known.rows)]):
        part = slice(start, stop)
        yield Known(known.rows[part], known.files, known.file[part], known.origin[part], known.stamps[part])


def _gather(layout: Layout, known: Known) -> Rows:
    """Read known rows, without those in blocks whose checksums are wrong."""
    valid = np.zeros(len(known.rows), bool)
    schema = row_schema(layout.spec, len(known.rows), layout.block_rows)
    names = [*(feature_name(layer.key) for layer in layout.spec.layers), *METADATA]
    names += [name for name in MEASURED if name in layout.extents]
    arrays = {name: np.zeros(*schema[name]) for name in names}
    for index in np.unique(known.file).tolist():
        mine = np.flatnonzero(known.file == index)
        file, rows = known.files[index], known.origin[mine]
        valid[mine] = file.check_rows(rows)
        for name in file.layout.extents.keys() & arrays:
            arrays[name][mine] = file.array(name)[rows]
    arrays["stat"] = stored_stamps(known.stamps)
    return Rows(known.rows[valid], {name: array[valid] for name, array in arrays.items()})
