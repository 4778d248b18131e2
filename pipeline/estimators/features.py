"""Features of a column of images: read from the store, or computed and added to it."""

import os
from collections.abc import Iterable

import numpy as np

from frostline.features.cache.store import FeatureStore
from frostline.features.content import as_keys
from frostline.features.images.decoding import reason_of
from frostline.features.spec import FeatureSpec
from frostline.pipeline.estimators.columns import ImageColumn
from frostline.pipeline.estimators.computing import Extractor
from frostline.pipeline.estimators.contents import ContentSource, contents_of
from frostline.pipeline.inputs.unreadable import report_remarks
from frostline.pipeline.progress import Reporter

_ATTEMPTS = 3  # to compute images that change while they are read
_MOST = 1 << 16
_CHANGED = "the image changed while it was being read"
_TRANSIENT = reason_of(MemoryError())

_failed: dict[tuple[str, bytes], str] = {}
"""Reason for each image that this process could not decode, by specification and content."""


class ColumnFeatures:
    """Features of a column of images.

    Args:
        column: The images.
        extractor: Computation of the features that the store does not hold.
        spec: Specification of the features, with one layer.
        workers: Number of threads that read images; None for one per core.
        report: Receiver of warnings.

    Attributes:
        values: (n, dim) float32 features; NaN for unreadable images.
        errors: Reason for each unreadable image by row.
    """

    def __init__(
        self,
        column: ImageColumn,
        extractor: Extractor,
        spec: FeatureSpec,
        *,
        workers: int | None = None,
        report: Reporter,
    ) -> None:
        (layer,) = spec.layers
        self.values = np.full((len(column), layer.dim), np.nan, np.float32)
        self.errors: dict[int, str] = {}
        self._column, self._extractor, self._workers, self._report = column, extractor, workers, report
        self._layer, self._digest = layer.key, spec.digest
        self._content, unreadable = contents_of(column, workers)
        self._missing = np.ones(len(column), bool)
        self._fail(unreadable.items())
        self._fill(extractor.store(spec))
        self.errors = dict(sorted(self.errors.items()))

    def _fill(self, store: FeatureStore) -> None:
        self._read(store)
        if self._missing.any():
            with store.writing():
                self._read(store)  # another process may have just computed them
                for _ in range(_ATTEMPTS):
                    if not self._missing.any():
                        break
                    self._compute(store)
                    self._read(store)
                    self._read_again(store)
                store.compact()
            self._fail((row, _CHANGED) for row in np.flatnonzero(self._missing).tolist())
        elif store.is_damaged():
            store.repair()

    def _read(self, store: FeatureStore) -> None:
        """Take the features that the store holds, and the failures that are known."""
        rows = np.flatnonzero(self._missing)
        known = ((row, _failed.get((self._digest, self._content[row].tobytes()))) for row in rows.tolist())
        self._fail([(row, reason) for row, reason in known if reason] if _failed else ())
        wanted = np.where(self._missing[:, None], self._content, np.uint8(0))
        self._missing &= ~store.read(wanted, self._layer, self.values)

    def _read_again(self, store: FeatureStore) -> None:
        """Take the digests of the images that changed before they were computed anew, and what is known of them."""
        rows = np.flatnonzero(self._missing)
        if len(rows):
            part = ImageColumn([self._column.items[row] for row in rows.tolist()])
            self._content[rows], unreadable = contents_of(part, self._workers)
            self._fail((int(rows[index]), reason) for index, reason in unreadable.items())
            self._read(store)

    def _compute(self, store: FeatureStore) -> None:
        """Compute each missing image once."""
        missing = np.flatnonzero(self._missing)
        keys, first = np.unique(as_keys(self._content[missing]), return_index=True)
        rows = missing[first]
        source = ContentSource(self._column, self._content[rows], rows.tolist())
        path = store.new_path()
        filled = self._extractor.fill(path, source)
        cache = filled.cache
        same = (cache.content == self._content[rows]).all(axis=1)
        for index, reason in cache.errors.items():
            alike = missing[as_keys(self._content[missing]) == keys[index]]
            self._fail((row, reason) for row in alike.tolist())
            if same[index] and reason != _TRANSIENT and len(_failed) < _MOST:
                _failed[self._digest, self._content[rows[index]].tobytes()] = reason
        empty = not cache.ok.any()
        cache.close()
        if empty:
            store.discard(path)
        numbers = {os.fsdecode(id_): row for id_, row in zip(source.table.ids, rows.tolist(), strict=True)}
        report_remarks(
            {self._column.name(numbers[id_]): remark for id_, remark in filled.remarks.items()}, self._report
        )

    def _fail(self, reasons: Iterable[tuple[int, str]]) -> None:
        for row, reason in reasons:
            self.errors[row] = reason
            self._missing[row] = False


def sample_of(column: ImageColumn, count: int = 32) -> ContentSource:
    """Return a source of the readable images in an evenly spaced sample of a column, each once."""
    sample = np.unique(np.linspace(0, len(column) - 1, min(len(column), count), dtype=np.int64))
    part = ImageColumn([column.items[row] for row in sample.tolist()])
    content, unreadable = contents_of(part)
    readable = np.setdiff1d(np.arange(len(part)), np.fromiter(unreadable, np.int64))
    _, first = np.unique(as_keys(content[readable]), return_index=True)
    return ContentSource(part, content[readable[first]], readable[first].tolist())
