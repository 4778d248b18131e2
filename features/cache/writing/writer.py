"""Cache writer: accepts rows in any order, commits them by block, and can be resumed after any interruption."""

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
from frostline.features.cache.writing.commit import Committer, EncodedRows
from frostline.features.cache.writing.reuse import KnownRows
from frostline.features.content import CONTENT_BYTES
from frostline.features.table import FAILED, OK, STAMP_BYTES, ImageSource


class CacheWriter:
    """Exclusive writer of an unfinished cache, created by `open_writer`.

    Rows are written in the background and committed by block. After an interruption of any kind, the next process
    resumes from the last committed block. Use the writer as a context manager, or `close` it. It is not
    thread-safe.

    Attributes:
        path: Path of the finished cache.
        partial_path: Path of the file until it is complete.
        rows: Number of images.
        block_rows: Rows per block. The rows of a block are committed together.
        copied: Number of rows copied from earlier files.
        resumed: Number of rows committed to this file by an earlier, interrupted run.
        todo: (k,) int64 rows to compute, ascending.
        source: Source of the images, in the order of the rows.
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
        self._committer = Committer(partial.fd, partial.path, layout, committed)

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
        """Submit computed rows, any number in any order, each once. The arrays may be reused afterwards.

        A valid row that the file's number format can't represent (not finite, or beyond float16) is recorded as
        failed.

        Args:
            rows: (k,) int64 rows from `todo`.
            features: (k, views, dim) float32 features by layer key. Values of failed rows are ignored.
            content: (k, 16) uint8 digests from `file_content`; zero for unreadable files.
            stamps: (k, 16) uint8 stamp of each image when it was read.
            status: (k,) uint8 status: 1 ok, 2 failed.
            errors: k reasons for failure, "" for valid rows.
            seconds: Total wall time of these rows in seconds; 0 if unknown.
            joules: Total energy of these rows in joules; 0 if unknown.

        Raises:
            ValueError: An array has a wrong shape, or a row is not in `todo` or was already submitted.
            OSError: Writing failed, in this call or earlier in the background. Committed rows are kept.
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
        # Indexing by an array copies, so that the caller may reuse its arrays while the thread encodes the copies.
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
        self._committer.submit(lambda: EncodedRows(ascending, encode() | measured))
        self._missing[rows] = False

    def reuse(self, known: KnownRows) -> None:
        """Copy rows of earlier files, except rows with wrong checksums. `open_writer` calls this method."""
        for part in _by_block(known, self.block_rows):
            copied = _gather(self._layout, part)
            self._committer.submit(copied.itself)
            self._missing[copied.rows] = False
            self.copied += len(copied.rows)
        self.todo = np.flatnonzero(self._missing)

    def finish(self) -> FeatureCache:
        """Sync the complete file to the disk, move it to its final path, and open it.

        Raises:
            RuntimeError: Rows are missing. The message gives the first one.
            OSError: Writing failed, or a program has the old file open (Windows). Committed rows are kept.
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
        """Commit the complete blocks and release the file, which the next run can resume.

        Raises:
            OSError: Writing failed. Committed rows are kept.
        """
        self._committer.stop()
        try:
            self._committer.flush()
        finally:
            self._release()

    def _release(self) -> None:
        if self._partial.fd >= 0 and not self._committer.committed.any():
            self._partial.delete()  # nothing to resume, and the reserved space may be large
        self._partial.release()

    def _check_rows(self, rows: NDArray[np.int64]) -> None:
        wrong = (rows < 0) | (rows >= self.rows)
        wrong[~wrong] = ~self._missing[rows[~wrong]]
        if wrong.any():
            raise ValueError(f"rows {rows[wrong][:5].tolist()} are not in the cache, or were already written")
        if len(np.unique(rows)) < len(rows):
            raise ValueError(f"rows {rows.tolist()} contain duplicates")


def _check_keys(features: Mapping[str, object], expected: Sequence[str]) -> None:
    if sorted(features) != sorted(expected):
        raise ValueError(f"got features of {', '.join(features)}; expected {', '.join(expected)}")


def _check_shape(name: str, got: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if got != expected:
        raise ValueError(f"{name} has shape {got}; expected {expected}")


def _by_block(known: KnownRows, block_rows: int) -> Iterator[KnownRows]:
    edges = np.flatnonzero(np.diff(known.rows // block_rows)) + 1
    for start, stop in pairwise([0, *edges.tolist(), len(known.rows)]):
        part = slice(start, stop)
        yield KnownRows(
            known.rows[part], known.files, known.file[part], known.origin[part], known.stamps[part]
        )


def _gather(layout: Layout, known: KnownRows) -> EncodedRows:
    """Read known rows, except those in blocks with wrong checksums."""
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
    return EncodedRows(known.rows[valid], {name: array[valid] for name, array in arrays.items()})
