"""Exact nearest-neighbour search: candidates in single precision, ranking in double precision.

Blocks of queries are scored against blocks of rows by single-precision matrix products. The rounding error of a
score has a known bound (Higham 2002, section 3.1), so that distances in double precision are needed for few rows
only. If the k nearest rows of a query are not separated from the rest by this bound, e.g. among many equal rows,
the query is searched again for every row within the bound. No n x n matrix is formed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Metric = Literal["cosine", "euclidean"]

MEMORY_BYTES = 2**28

_SPARE = 8  # additional candidates beyond the k nearest, so that few queries are ambiguous within rounding
_CACHE_BYTES = 2**24  # working set on a CPU, so that the next step finds it in the cache
_BATCHES = 64  # batches of candidates whose groups are compared at a time


class Neighbors(NamedTuple):
    """The nearest rows of q queries in ascending order of distance; ties are broken in favour of the lowest row.

    A query with fewer than k rows outside its group has distance infinity and row -1 in the last places.
    """

    distances: NDArray[np.float64]  # (q, k)
    rows: NDArray[np.int64]  # (q, k)


class Pairs(NamedTuple):
    """Pairs of a query and a row, with their distance."""

    queries: NDArray[np.int64]  # (p,)
    rows: NDArray[np.int64]  # (p,)
    distances: NDArray[np.float64]  # (p,)


@dataclass(frozen=True)
class Vectors:
    """Feature vectors that are read and converted one block at a time.

    Attributes:
        X: (n, d) numbers of any width, e.g. a memory map, or an object that returns selected rows as an array.
        index: Row indices into X; None for all rows.
        groups: (m,) int64, one for each of these rows. A query and a row of one group are not compared. None compares
            all of them.
    """

    X: Any
    index: NDArray[np.int64] | None = None
    groups: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return int(self.X.shape[0]) if self.index is None else len(self.index)

    def part(self, positions: slice | NDArray[np.int64]) -> "Vectors":
        """Return some of these rows, without reading them; those of a slice share their groups."""
        index = np.arange(len(self))[positions] if self.index is None else self.index[positions]
        return Vectors(self.X, index, None if self.groups is None else self.groups[positions])

    def block(self, start: int, stop: int) -> Tensor:
        """Return a copy of rows start to stop, on the CPU."""
        if self.index is None:
            return _tensor(np.array(self.X[start:stop]))
        return _tensor(np.asarray(self.X[self.index[start:stop]]))

    def take(self, positions: NDArray[np.int64]) -> Tensor:
        """Return a copy of the rows at these positions, on the CPU."""
        return _tensor(np.asarray(self.X[positions if self.index is None else self.index[positions]]))


def _tensor(vectors: NDArray[Any]) -> Tensor:
    known = vectors.dtype in (np.float16, np.float32, np.float64)
    return torch.from_numpy(vectors if known else vectors.astype(np.float64))


class RowSearch:
    """Exact search among rows by cosine distance (1 - cosine) or Euclidean distance.

    Distances are computed from differences in float64, not from norms, so that distances of near-duplicates keep
    their precision, and equal rows have equal distances. A zero vector has cosine distance 1 to every row. Apart
    from its inputs and results, a search uses at most ``memory_bytes``, or the memory of single rows if that is
    larger.

    Args:
        base: Vectors to search.
        metric: ``cosine`` or ``euclidean``.
        device: Device of the scores.
        centre: (d,) origin that is subtracted first, rounded to float32. Euclidean distances do not depend on it.
        memory_bytes: Limit on working memory in bytes.
    """

    def __init__(
        self,
        base: Vectors,
        *,
        metric: Metric,
        device: torch.device,
        centre: NDArray[Any] | None = None,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self._base = base
        self._cosine = metric == "cosine"
        self._device = device
        # Other devices lack float64.
        self._exact_device = device if device.type == "cuda" else torch.device("cpu")
        self._width = base.X.shape[1]
        self._share = memory_bytes // 4  # one share each for a block of rows, queries, scores and pairs
        in_cache = min(self._share, _CACHE_BYTES) if device.type == "cpu" else self._share
        self._block_rows = max(1, min(self._share, 2 * in_cache) // (16 * self._width))
        self._block_pairs = max(1, in_cache // (32 * self._width))
        self._scores = torch.empty(max(in_cache // 4, self._block_rows), device=device)
        if centre is None and not self._cosine:
            # Distances do not depend on the origin; an origin near the mean of the rows minimises rounding.
            sample = np.linspace(0, len(base) - 1, min(len(base), self._block_rows)).astype(np.int64)
            centre = base.take(sample).double().mean(dim=0).numpy()
        origin = None if centre is None else torch.as_tensor(np.asarray(centre), dtype=torch.float32)
        self._centre = None if origin is None else origin.to(self._exact_device)

    def nearest(self, queries: Vectors, k: int) -> Neighbors:
        """Find the k nearest rows of every query.

        Args:
            queries: q vectors.
            k: Number of neighbours, at most the number of rows.

        Returns:
            Distances and rows, (q, k) each.
        """
        found = Neighbors(np.empty((len(queries), k)), np.empty((len(queries), k), np.int64))
        step = max(1, self._share // (16 * self._width + 64 * (k + _SPARE)))
        for start in range(0, len(queries), step):
            chunk = np.arange(start, min(start + step, len(queries)))
            found.distances[chunk], found.rows[chunk] = self._nearest(queries, chunk, k)
        return found

    def within(self, queries: Vectors, limits: NDArray[np.float64]) -> Iterator[Pairs]:
        """Yield all pairs of a query and a row with at most the distance limit of the query, in batches.

        Args:
            queries: q vectors.
            limits: (q,) largest distances. The caller may lower them during iteration, and may change groups.

        Yields:
            Batches of pairs.
        """
        for start in range(0, len(queries), self._block_rows):
            chunk = np.arange(start, min(start + self._block_rows, len(queries)))
            placed = self._place(queries.block(start, start + len(chunk)))
            part = slice(start, start + len(chunk))
            for query, row in self._scan(placed, limits[part], self._groups(queries, part)):
                pairs = Pairs(chunk[query], row, self._distances(queries, chunk[query], row))
                near = pairs.distances <= limits[pairs.queries]
                yield Pairs(pairs.queries[near], pairs.rows[near], pairs.distances[near])

    def _nearest(self, queries: Vectors, chunk: NDArray[np.int64], k: int) -> Neighbors:
        placed = self._place(queries.block(int(chunk[0]), int(chunk[-1]) + 1))
        candidates = min(k + _SPARE, len(self._base))
        groups = self._groups(queries, slice(int(chunk[0]), int(chunk[-1]) + 1))
        scores, rows, reach = self._best(placed, candidates, groups)
        rows, complete = self._compared(rows, groups)
        norms = _norms(placed)
        rounding = self._rounding(norms, reach)
        # Queries with overflowed scores are searched again.
        with np.errstate(invalid="ignore"):
            near = ~(scores < (scores[:, k - 1] - 2 * rounding)[:, None]) & (rows >= 0)
            distances = np.full(scores.shape, np.inf)
            distances[near] = self._distances(queries, chunk[np.nonzero(near)[0]], rows[near])
            found = _first(Neighbors(distances, np.where(near, rows, -1)), k)
            needed = self._score(found.distances[:, -1], norms) - rounding
            unsure = np.flatnonzero(~(needed > scores[:, -1]) & ~complete)
        self._search_again(queries, chunk[unsure], found, unsure)
        return found

    def _search_again(
        self, queries: Vectors, chunk: NDArray[np.int64], found: Neighbors, positions: NDArray[np.int64]
    ) -> None:
        """Replace the neighbours at these positions by the result of a search over all rows within the bound."""
        if not chunk.size:
            return
        again = queries.part(chunk)
        best = _Best(found.distances.shape[1], found.distances[positions, -1].copy())
        for pairs in self.within(again, best.limits):
            best.add(pairs)
        found.distances[positions], found.rows[positions] = best.neighbors()

    # ------------------------------------------------------------------------------------------ single precision

    def _place(self, vectors: Tensor) -> Tensor:
        """Map vectors to the space of the scores, as float32 on the device. The argument may be overwritten."""
        vectors = vectors.to(self._exact_device)
        vectors = vectors.float() if vectors.dtype == torch.float16 else vectors
        return self._map(vectors).to(self._device, torch.float32)

    def _map(self, vectors: Tensor) -> Tensor:
        """Centre and normalise float32 or float64 vectors in place."""
        if self._centre is not None:
            vectors -= self._centre
        return _normalise(vectors) if self._cosine else vectors

    def _blocks(self) -> Iterator[tuple[int, Tensor, Tensor, float]]:
        """Yield the start, vectors, half squared norms (negated) and largest norm of every block of rows."""
        for start in range(0, len(self._base), self._block_rows):
            block = self._place(self._base.block(start, min(start + self._block_rows, len(self._base))))
            norms = torch.linalg.vector_norm(block, dim=1)
            yield start, block, norms.square().mul_(-0.5), float(norms.max())

    def _tiles(self, placed: Tensor, block: Tensor, offsets: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Yield scores of queries against a block of rows, larger if nearer. Each result overwrites the previous one."""
        step = max(1, len(self._scores) // len(block))
        for start in range(0, len(placed), step):
            part = slice(start, min(start + step, len(placed)))
            out = self._scores[: (part.stop - start) * len(block)].view(-1, len(block))
            with _full_precision():
                if self._cosine:
                    torch.mm(placed[part], block.T, out=out)
                else:
                    torch.addmm(offsets, placed[part], block.T, out=out)
            yield part, out

    def _groups(self, queries: Vectors, part: slice) -> NDArray[np.int64] | None:
        """Return the groups of some queries; None if all of them are compared with all rows."""
        return None if queries.groups is None or self._base.groups is None else queries.groups[part]

    def _apart(self, groups: NDArray[np.int64], start: int, count: int) -> Tensor:
        """Return which queries, of the given groups, are compared with which rows of a block."""
        ours, theirs = (
            torch.tensor(each, device=self._device)
            for each in (groups, cast("NDArray[np.int64]", self._base.groups)[start : start + count])
        )
        return ours[:, None] != theirs

    def _compared(
        self, rows: NDArray[np.int64], groups: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return candidates without the rows of the queries' own groups, and whether they are all rows of other groups."""
        if groups is None or self._base.groups is None:
            return rows, (rows >= 0).sum(axis=1) == len(self._base)
        known, sizes = np.unique(self._base.groups, return_counts=True)
        place = np.searchsorted(known, groups).clip(max=len(known) - 1)
        others = len(self._base) - np.where(known[place] == groups, sizes[place], 0)
        rows = np.where((rows >= 0) & (self._base.groups[rows] != groups[:, None]), rows, -1)
        return rows, (rows >= 0).sum(axis=1) == others

    def _best(
        self, placed: Tensor, count: int, groups: NDArray[np.int64] | None
    ) -> tuple[NDArray[Any], NDArray[np.int64], float]:
        """Return the (q, count) highest scores, their rows, and the largest norm of any row."""
        best = torch.full((len(placed), count), -torch.inf, device=self._device)
        rows = torch.full((len(placed), count), -1, device=self._device)
        reach = 0.0
        for start, block, offsets, largest in self._blocks():
            reach = max(reach, largest)
            for part, scores in self._tiles(placed, block, offsets):
                if groups is not None:
                    scores.masked_fill_(~self._apart(groups[part], start, len(block)), -torch.inf)
                top, where = scores.topk(min(count, scores.shape[1]), sorted=False)
                joined = torch.cat([best[part], top], dim=1)
                best[part], order = joined.topk(count)
                rows[part] = torch.cat([rows[part], where.add_(start)], dim=1).gather(1, order)
        return best.cpu().double().numpy(), rows.cpu().numpy(), reach

    def _scan(
        self, placed: Tensor, limits: NDArray[np.float64], groups: NDArray[np.int64] | None
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Yield batches of candidate queries and rows, which include all pairs within the limits of the queries."""
        norms = _norms(placed)
        for start, block, offsets, largest in self._blocks():
            for part, scores in self._tiles(placed, block, offsets):
                with np.errstate(invalid="ignore", over="ignore"):
                    least = self._score(limits[part], norms[part]) - self._rounding(norms[part], largest)
                    least = np.nextafter(least.astype(np.float32), np.float32(-np.inf))
                cutoff = torch.as_tensor(least, device=self._device)
                # The comparison is negated, so that overflowed scores are kept.
                hits = ~(scores < cutoff[:, None])
                if groups is not None:
                    hits &= self._apart(groups[part], start, len(block))
                query, row = hits.nonzero().cpu().numpy().T
                yield from self._batches(query + part.start, row + start, groups)

    def _batches(
        self, query: NDArray[np.int64], row: NDArray[np.int64], groups: NDArray[np.int64] | None
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Yield candidates in batches, without those whose groups became equal while the earlier ones were used."""
        size = self._block_pairs
        if groups is None or self._base.groups is None:
            for first in range(0, len(query), size):
                yield query[first : first + size], row[first : first + size]
            return
        for first in range(0, len(query), _BATCHES * size):
            queries, rows = (each[first : first + _BATCHES * size] for each in (query, row))
            # One pair of each pair of groups comes first: if the caller joins them, the others need no distance.
            leading = _first_of_pairs(groups[queries], self._base.groups[rows])
            for chosen in (leading, ~leading):
                ours, theirs = queries[chosen], rows[chosen]
                while True:
                    apart = groups[ours] != self._base.groups[theirs]
                    ours, theirs = ours[apart], theirs[apart]
                    if not ours.size:
                        break
                    yield ours[:size], theirs[:size]
                    ours, theirs = ours[size:], theirs[size:]

    def _score(self, distances: NDArray[np.float64], norms: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the exact score of a row at these distances."""
        score: NDArray[np.float64] = 1 - distances if self._cosine else (norms**2 - distances**2) / 2
        return score

    def _rounding(self, norms: NDArray[np.float64], reach: float) -> NDArray[np.float64]:
        """Return an upper bound of the rounding error of a score, from its inner product, operands and offset."""
        bound: NDArray[np.float64] = (
            2.0**-24 * (self._width + 16) * reach * (norms + reach) + 2.0**-50 * norms**2
        )
        return bound

    # ------------------------------------------------------------------------------------------ double precision

    def _distances(
        self, queries: Vectors, query: NDArray[np.int64], row: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return the (p,) float64 distances of pairs that are sorted by query."""
        distances = np.empty(len(row))
        for start in range(0, len(row), self._block_pairs):
            part = slice(start, start + self._block_pairs)
            own, position = np.unique(query[part], return_inverse=True)
            ours = self._map(queries.take(own).to(self._exact_device).double())
            theirs = self._map(self._base.take(row[part]).to(self._exact_device).double())
            places = torch.from_numpy(position)
            zero = _zeros(ours)[places] | _zeros(theirs) if self._cosine else None
            theirs -= ours[places]
            gaps = torch.linalg.vector_norm(theirs, dim=1)
            if zero is not None:  # the chord between unit vectors gives their cosine; a zero vector has none
                gaps = torch.where(zero, 1.0, gaps.square() / 2)
            distances[part] = gaps.cpu().numpy()
        return distances


class _Best:
    """The k nearest rows of each query among the added pairs."""

    def __init__(self, k: int, limits: NDArray[np.float64]) -> None:
        self.limits = limits
        self._k = k
        self._pairs = Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))

    def add(self, pairs: Pairs) -> None:
        query, row, distance = (np.concatenate(parts) for parts in zip(self._pairs, pairs, strict=True))
        order = np.lexsort((row, distance, query))
        query = query[order]
        rank = np.arange(len(query)) - np.searchsorted(query, query)
        kept = order[rank < self._k]
        self._pairs = Pairs(query[rank < self._k], row[kept], distance[kept])
        last = rank == self._k - 1
        self.limits[query[last]] = distance[order[last]]

    def neighbors(self) -> Neighbors:
        query, row, distance = self._pairs
        shape = (len(self.limits), self._k)
        found = Neighbors(np.full(shape, np.inf), np.full(shape, -1))
        rank = np.arange(len(query)) - np.searchsorted(query, query)
        found.distances[query, rank], found.rows[query, rank] = distance, row
        return found


def _first(found: Neighbors, k: int) -> Neighbors:
    order = np.lexsort((found.rows, found.distances), axis=1)[:, :k]
    return Neighbors(
        np.take_along_axis(found.distances, order, axis=1), np.take_along_axis(found.rows, order, axis=1)
    )


def _first_of_pairs(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return a mask of the first occurrence of each pair of numbers."""
    order = np.lexsort((b, a))
    changes = (np.diff(a[order]) != 0) | (np.diff(b[order]) != 0)
    first = np.zeros(len(a), bool)
    first[order[np.concatenate([[True], changes])]] = True
    return first


def _norms(placed: Tensor) -> NDArray[np.float64]:
    norms: NDArray[np.float64] = torch.linalg.vector_norm(placed, dim=1).cpu().double().numpy()
    return norms


def _zeros(vectors: Tensor) -> Tensor:
    return (vectors == 0).all(dim=1)


def _normalise(vectors: Tensor) -> Tensor:
    """Divide vectors by their Euclidean norms, in place; zero vectors stay zero."""
    norms = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    least = torch.finfo(vectors.dtype).tiny ** 0.4
    odd = ~((norms > least) & (norms < 1 / least))
    if bool(odd.any()):  # squares may have overflowed or underflowed
        peaks = vectors.abs().amax(dim=1, keepdim=True)
        vectors /= torch.where(odd & (peaks > 0), peaks, 1)
        norms = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return vectors.div_(torch.where(norms > 0, norms, 1))


@contextmanager
def _full_precision() -> Iterator[None]:
    """Disable TF32 and bfloat16 products within a context, as required by the bound on rounding."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
