"""Rows and layers of a cache, read block by block, with all that is known of each row."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from frostline.features.cache.file.encoding import decode
from frostline.features.cache.file.layout import Array, feature_name
from frostline.features.columns import Column
from frostline.features.errors import CacheFormatError, LayerError, RowsError
from frostline.features.spec import Layer
from frostline.splits import SPLIT_NAMES
from frostline.wording import count_of

if TYPE_CHECKING:
    from frostline.features.cache.reader import FeatureCache

BLOCK_BYTES = 1 << 23
"""Bytes of a block, about."""

DESCRIPTION_FORMAT, DESCRIPTION_VERSION = "frostline-vectors", 1
_CHECKED = 64  # blocks of the file whose metadata is checked at a time
_SHOWN = 5
_TEXT_BYTES = 1024  # of what is known of a row, about


@dataclass(frozen=True, eq=False)
class Block:
    """Consecutive rows of a selection.

    Attributes:
        rows: (k,) int64 rows in the cache.
        ids: (k,) str names of the images.
        labels: (k,) int64 indices into the classes, -1 for unknown.
        split: (k,) uint8 codes of `frostline.splits.Split`.
        groups: (k,) str groups, "" for none.
        content: (k, 16) uint8 digests of the image files.
        columns: Side columns by name: (k,) float64, NaN for none; or (k,) str, "" for none.
        features: (k, dim) features by layer key: float32 or float16, and float32 for a bfloat16 cache.
    """

    rows: NDArray[np.int64]
    ids: NDArray[np.str_]
    labels: NDArray[np.int64]
    split: NDArray[np.uint8]
    groups: NDArray[np.str_]
    content: NDArray[np.uint8]
    columns: Mapping[str, NDArray[Any]]
    features: Mapping[str, Array]

    def digests(self) -> list[str]:
        """Return the digests of the image files as hexadecimal texts."""
        return [row.tobytes().hex() for row in self.content]


@dataclass(frozen=True, eq=False)
class Selection:
    """Rows with features, and layers, of a cache. Make it with `Selection.of`.

    A row without features, whose image is unreadable, is left out.

    Attributes:
        cache: The cache.
        layers: The layers.
        rows: (n,) int64 rows in the cache, all of which have features.
        failed: Number of rows that were asked for and left out because they have no features.
        view: Index of the augmented view; 0 is the plain image.
    """

    cache: "FeatureCache"
    layers: tuple[Layer, ...]
    rows: NDArray[np.int64]
    failed: int
    view: int

    @classmethod
    def of(
        cls,
        cache: "FeatureCache",
        layers: str | Sequence[str] | None = None,
        *,
        split: str | Sequence[str] | None = None,
        rows: Any = None,
        view: int = 0,
    ) -> Self:
        """Select rows and layers.

        Args:
            cache: The cache.
            layers: Key of a layer, or keys of several; None for all.
            split: Declared split, or several, of the rows: train, val, test or none; None for all.
            rows: (k,) integer rows in the cache, or a mask of all rows; None for all. A row that is named without
                having features is an error.
            view: Index of the augmented view.

        Raises:
            LayerError: The cache has no such layer, or a layer is named twice.
            IndexError: The cache has no such view.
            RowsError: There are no such rows or splits, or a row that is named has no features.
            ChecksumError: The metadata is damaged.
        """
        if not 0 <= view < cache.spec.views:
            raise IndexError(
                f"{cache.path}: has {count_of(cache.spec.views, 'view')}, numbered from 0; got {view}"
            )
        found = _layers(cache, layers)
        _check_metadata(cache)
        wanted = np.arange(cache.rows) if rows is None else _rows(cache, rows)
        if split is not None:
            wanted = wanted[np.isin(cache.split[wanted], _codes(split))]
        ok = cache.ok[wanted]
        failed = wanted[~ok]
        if rows is not None and len(failed):
            shown = ", ".join(f"{row} ({cache.ids[row]})" for row in failed[:_SHOWN].tolist())
            raise RowsError(
                f"{cache.path}: {len(failed)} of the rows have no features, because their images can't be read: {shown};"
                " select rows where `cache.ok` is true"
            )
        return cls(cache, found, wanted[ok], len(failed), view)

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """Keys of the layers."""
        return tuple(layer.key for layer in self.layers)

    @property
    def columns(self) -> tuple[Column, ...]:
        """Side columns, with the values of all rows of the cache."""
        return self.cache.file.table.columns

    @property
    def block_rows(self) -> int:
        """Number of rows in each block but the last."""
        size = self.cache.file.layout.block_rows
        width = sum(layer.dim for layer in self.layers) * 4 + _TEXT_BYTES
        return max(1, BLOCK_BYTES // (width * size)) * size

    def blocks(self, *, keep: bool = False) -> Iterator[Block]:
        """Iterate over the rows in order.

        Where the rows of a block are consecutive and nothing has to be converted, its features are views of the file.

        Args:
            keep: Whether the caller keeps the blocks. If not, their memory is given back to the system after each.

        Raises:
            ChecksumError: Rows are damaged.
            CacheFormatError: A name is not UTF-8.
        """
        table, content = self.cache.file.table, self.cache.content
        for rows, where in self._places(self.block_rows):
            yield Block(
                rows=rows,
                ids=self._decoded("ids", table.ids[where]),
                labels=table.labels[where],
                split=table.split[where],
                groups=self._decoded("groups", table.groups[where]),
                content=content[where],
                columns={
                    each.name: each.values[where]
                    if each.is_numeric
                    else self._decoded("side columns", each.values[where])
                    for each in self.columns
                },
                features={
                    key: decode(self._stored(key, rows, where), self.cache.spec.dtype) for key in self.keys
                },
            )
            if not keep:
                self.cache.file.release()

    def stored(self, key: str) -> Iterator[Array]:
        """Iterate over the (k, dim) features of one layer as they are in the file: uint16 bits for bfloat16."""
        for rows, where in self._places(self.block_rows):
            yield self._stored(key, rows, where)
            self.cache.file.release()

    def values(self, what: str, column: NDArray[Any]) -> Iterator[NDArray[Any]]:
        """Iterate over the (k,) values of one column of the table, numbers or texts; `what` names it in messages."""
        for _, where in self._places(self.block_rows):
            yield self._decoded(what, column[where]) if column.dtype.kind == "S" else column[where]
            self.cache.file.release()

    def description(self) -> dict[str, Any]:
        """Return what the vectors are and where they come from, as values of JSON.

        The SHA-256 of the canonical JSON text of ``specification`` (sorted keys, no spaces, ASCII) is ``key``.
        """
        cache = self.cache
        return {
            "format": DESCRIPTION_FORMAT,
            "format_version": DESCRIPTION_VERSION,
            "frostline": version("frostline"),
            "cache": cache.path.name,
            "key": cache.key,
            "source": cache.source,
            "created": cache.created.isoformat(),
            "rows": len(self),
            "failed": self.failed,
            "classes": list(cache.classes),
            "layers": [{"key": layer.key, "dim": layer.dim} for layer in self.layers],
            "columns": [
                {"key": each.name, "kind": "number" if each.is_numeric else "text"} for each in self.columns
            ],
            "view": self.view,
            "specification": json.loads(cache.spec.to_json()),
        }

    def _places(self, size: int) -> Iterator[tuple[NDArray[np.int64], Any]]:
        """Yield the rows of each block, and an index of them: a slice where they are consecutive."""
        for start in range(0, len(self.rows), size):
            rows = self.rows[start : start + size]
            consecutive = len(rows) == 1 or bool((np.diff(rows) == 1).all())
            yield rows, slice(int(rows[0]), int(rows[-1]) + 1) if consecutive else rows

    def _stored(self, key: str, rows: NDArray[np.int64], where: Any) -> Array:
        self.cache.check_features(key, np.unique(rows // self.cache.file.layout.block_rows))
        taken: Array = self.cache.file.array(feature_name(key))[where, self.view]
        return taken

    def _decoded(self, what: str, names: NDArray[np.bytes_]) -> NDArray[np.str_]:
        try:
            return np.strings.decode(names, "utf-8")
        except UnicodeDecodeError as error:
            raise CacheFormatError(f"{self.cache.path}: one of the {what} is not UTF-8 ({error})") from None


def _layers(cache: "FeatureCache", wanted: str | Sequence[str] | None) -> tuple[Layer, ...]:
    if wanted is None:
        return cache.layers
    keys = [wanted] if isinstance(wanted, str) else list(wanted)
    known = {layer.key: layer for layer in cache.layers}
    for key in keys:
        if key not in known:
            raise LayerError(f"{cache.path}: has no layer {key!r}; choose one of {', '.join(known)}")
    if len(set(keys)) < len(keys):
        raise LayerError(f"{cache.path}: a layer is named twice: {', '.join(keys)}")
    return tuple(known[key] for key in keys)


def _rows(cache: "FeatureCache", wanted: Any) -> NDArray[np.int64]:
    rows = np.asarray(wanted)
    if rows.dtype == bool and rows.shape == (cache.rows,):
        return np.flatnonzero(rows)
    if rows.ndim != 1 or not (np.issubdtype(rows.dtype, np.integer) or not rows.size):
        raise RowsError(
            f"rows: got an array of {rows.dtype} and shape {rows.shape}; expected (k,) integers, or (n,) bool for the"
            f" {cache.rows} rows of {cache.path}"
        )
    if rows.size and not (rows.min() >= 0 and rows.max() < cache.rows):
        raise RowsError(
            f"rows: {cache.path} has rows 0 to {cache.rows - 1}; got {rows.min()} to {rows.max()}"
        )
    return rows.astype(np.int64)


def _codes(split: str | Sequence[str]) -> list[int]:
    names = [split] if isinstance(split, str) else list(split)
    for name in names:
        if name not in SPLIT_NAMES:
            raise RowsError(f"split: got {name!r}, expected one of {', '.join(SPLIT_NAMES)}")
    return [SPLIT_NAMES.index(name) for name in names]


def _check_metadata(cache: "FeatureCache") -> None:
    """Verify the metadata of all rows, without keeping them in memory."""
    blocks = np.arange(cache.file.layout.blocks)
    for start in range(0, len(blocks), _CHECKED):
        cache.check_metadata(blocks[start : start + _CHECKED])
        cache.file.release()
