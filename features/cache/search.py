"""Search for the nearest rows of a cache: exact, blocked, and in bounded memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from frostline.features.errors import SearchError
from frostline.numerics.devices import resolve_device
from frostline.numerics.neighbors import MEMORY_BYTES, Metric, RowSearch, Vectors
from frostline.registry import near

if TYPE_CHECKING:
    import torch

    from frostline.features.cache.reader import FeatureCache

_HINTS = 20_000  # ids that an unknown one is compared with


@dataclass(frozen=True, eq=False)
class NearestRows:
    """The nearest rows of each query, the nearest first; of equally near rows, the first comes first.

    Attributes:
        rows: (q, k) int64 rows of the cache.
        ids: (q, k) str ids of these rows.
        distances: (q, k) float64: 1 - cosine, or Euclidean distances.
    """

    rows: NDArray[np.int64]
    ids: NDArray[np.str_]
    distances: NDArray[np.float64]


def search_rows(
    cache: "FeatureCache",
    queries: str | Sequence[str] | ArrayLike,
    k: int = 20,
    *,
    layer: str | None = None,
    metric: Metric = "cosine",
    exclude_self: bool = True,
    among: ArrayLike | None = None,
    device: str = "auto",
    memory_bytes: int = MEMORY_BYTES,
) -> NearestRows:
    """Find the nearest rows of a cache; see `frostline.FeatureCache.search`.

    Raises:
        SearchError: A query or `among` is not valid, a row has no features, or there are fewer than k rows.
        LayerError: The layer is not in the cache, or no layer is named although the cache has several.
        OptionError: The metric or the device is unknown.
    """
    if metric not in ("cosine", "euclidean"):
        raise SearchError(f"metric: got {metric!r}, expected cosine or euclidean")
    X = stored_rows(cache, layer)
    wanted = _queries(cache, X, queries)
    rows = _among(cache, among)
    own = wanted.index if exclude_self else None
    most = len(rows) if own is None else len(rows) - int(np.isin(own, rows).any())
    if not 1 <= k <= most:
        raise SearchError(
            f"{cache.path}: k: got {k}, expected 1 to {most}, the number of rows to search; lower k"
            if most
            else f"{cache.path}: none of the rows to search has features"
            if not len(rows)
            else f"{cache.path}: the row to search for is the only one to search; to find it too, pass --include-self, or"
            " exclude_self=False in a script"
        )
    search = RowSearch(
        Vectors(X, rows, None if own is None else rows),
        metric=metric,
        device=resolve_device(device),
        memory_bytes=memory_bytes,
    )
    found = search.nearest(Vectors(wanted.X, wanted.index, own), k)
    return NearestRows(rows[found.rows], cache.ids[rows[found.rows]], found.distances)


def stored_rows(cache: "FeatureCache", layer: str | None = None) -> Any:
    """Return the (n, dim) features of a layer to read in blocks: the memory-mapped array, or one like it for bfloat16.

    Raises:
        LayerError: The layer is not in the cache, or no layer is named although the cache has several.
        ChecksumError: Rows are damaged.
    """
    if cache.spec.dtype == "bfloat16":
        return _Bfloat16Rows(cache.features(layer, as_torch=True))
    return cache.features(layer)


class _Bfloat16Rows:
    """(n, dim) bfloat16 tensor, whose rows are converted to float32 arrays on indexing."""

    def __init__(self, tensor: "torch.Tensor") -> None:
        self._tensor = tensor
        self.shape, self.dtype = tuple(tensor.shape), np.dtype(np.float32)

    def __getitem__(self, rows: Any) -> NDArray[np.float32]:
        """Return rows as a (k, dim) array."""
        taken: NDArray[np.float32] = self._tensor[rows].float().numpy()
        return taken


def rows_of(cache: "FeatureCache", ids: Sequence[str]) -> NDArray[np.int64]:
    """Return the rows of images that have features.

    Raises:
        SearchError: An image is not in the cache, or could not be read.
    """
    known = {name: row for row, name in enumerate(cache.ids.tolist())}
    for name in ids:
        if name not in known:
            raise SearchError(
                f"{cache.path}: has no image {name!r}{near(name, _similar(name, list(known)))}; expected the id of one of its"
                f" {cache.rows} images"
            )
    rows = np.array([known[name] for name in ids], np.int64)
    _check_features(cache, rows)
    return rows


def _similar(name: str, ids: list[str]) -> list[str]:
    """Return some of the ids to compare with a name: all of them, or those that contain its file name."""
    if len(ids) <= _HINTS:
        return ids
    stem = name.rpartition("/")[2].partition(".")[0].lower()
    return [each for each in ids if stem in each.lower()][:_HINTS]


def _check_features(cache: "FeatureCache", rows: NDArray[np.int64]) -> None:
    for row in rows[~cache.ok[rows]][:1].tolist():
        reason = cache.errors.get(row, "")
        raise SearchError(
            f"{cache.path}: {str(cache.ids[row])!r} has no features, because the image could not be read"
            f"{reason and f': {reason}'}"
        )


def _queries(cache: "FeatureCache", X: Any, queries: str | Sequence[str] | ArrayLike) -> Vectors:
    """Return the vectors of the queries: rows of the cache with their index, or new vectors without one."""
    given = np.asarray([queries] if isinstance(queries, str) else queries)
    if given.dtype.kind == "U" and given.ndim == 1 and given.size:
        return Vectors(X, rows_of(cache, given.tolist()))
    if given.dtype.kind in "iu" and given.ndim <= 1 and given.size:
        return Vectors(X, _row_numbers(cache, np.atleast_1d(given), "queries"))
    width = X.shape[1]
    if given.dtype.kind != "f" or given.ndim not in (1, 2) or given.shape[-1] != width or not given.size:
        raise SearchError(
            f"queries: got {given.dtype} of shape {given.shape}, expected ids, row numbers, or vectors of {width} floats"
        )
    vectors = np.atleast_2d(given)
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if bad.size:
        raise SearchError(
            f"queries: vector {bad[0]} (and {bad.size - 1} more) has values that are not finite"
        )
    return Vectors(vectors)


def _row_numbers(cache: "FeatureCache", given: NDArray[Any], name: str) -> NDArray[np.int64]:
    rows = given.astype(np.int64)
    wrong = rows[(rows < 0) | (rows >= cache.rows)]
    if wrong.size:
        raise SearchError(f"{name}: got row {wrong[0]}, expected 0 to {cache.rows - 1}")
    if name == "queries":
        _check_features(cache, rows)
    return rows


def _among(cache: "FeatureCache", among: ArrayLike | None) -> NDArray[np.int64]:
    """Return the rows to search, sorted: those of `among` that have features."""
    if among is None:
        return np.flatnonzero(cache.ok)
    given = np.asarray(among)
    if given.dtype == bool and given.shape == (cache.rows,):
        return np.flatnonzero(given & cache.ok)
    if given.dtype.kind not in "iu" or given.ndim != 1:
        raise SearchError(
            f"among: got {given.dtype} of shape {given.shape}, expected a mask of {cache.rows} rows, or row numbers"
        )
    rows = np.unique(_row_numbers(cache, given, "among"))
    return rows[cache.ok[rows]]
