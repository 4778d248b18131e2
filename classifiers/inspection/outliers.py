"""Outliers by the distances of nearest neighbours, and robust thresholds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.errors import HeadError
from frostline.numerics.devices import resolve_device
from frostline.numerics.neighbors import MEMORY_BYTES, Metric, Neighbors, RowSearch, Vectors

_STEP = 2048  # queries at a time, between two reports of progress


@dataclass(frozen=True, eq=False)
class NeighbourScores:
    """Scores of n rows by their nearest neighbours.

    Attributes:
        distance: (n,) distance of the k-th nearest row (Ramaswamy, Rastogi & Shim 2000, Efficient algorithms for
            mining outliers from large data sets). Sun, Ming, Zhu & Li 2022 (Out-of-distribution detection with deep
            nearest neighbors) use it on the features of networks.
        foreignness: (n,) own / (own + other), from 0 to 1: ``own`` is the distance of the k-th nearest row of the
            row's class, ``other`` that of the k-th nearest row of all other classes. Above 0.5, other classes are
            nearer. The order is that of own / other, the nonconformity of Proedrou, Nouretdinov, Vovk & Gammerman
            2002 (Transductive confidence machines for pattern recognition). NaN for rows without a label, and for
            the only row of a class. A class of fewer than k + 1 rows uses a smaller k.
        nearest_class: (n,) class of the nearest row of another class; -1 if `foreignness` is NaN.
    """

    distance: NDArray[np.float64]
    foreignness: NDArray[np.float64]
    nearest_class: NDArray[np.int64]


def neighbour_scores(
    X: Any,
    rows: NDArray[np.int64],
    labels: NDArray[np.int64],
    k: int,
    *,
    metric: Metric = "cosine",
    device: str = "auto",
    memory_bytes: int = MEMORY_BYTES,
    advance: Callable[[int], object] = lambda _done: None,
) -> NeighbourScores:
    """Score rows by the distances of their nearest neighbours, which are exact.

    Args:
        X: (n, d) floats of any width, e.g. a memory map.
        rows: (m,) rows to score. Their features are finite.
        labels: (m,) class of each row, -1 for unknown.
        k: Neighbour whose distance counts.
        metric: ``cosine`` (1 - cosine) or ``euclidean``.
        device: Device of the matrix products.
        memory_bytes: Limit on working memory in bytes.
        advance: Function that is called with the number of rows scored since the last call.

    Returns:
        Scores of the m rows.

    Raises:
        HeadError: There are at most k rows, or the device is not available.
    """
    if not 1 <= k < len(rows):
        raise HeadError(
            f"k: got {k}, expected 1 to {len(rows) - 1}, one less than the number of rows; lower k"
        )
    rows, labels = np.asarray(rows, np.int64), np.asarray(labels, np.int64)
    place = resolve_device(device, HeadError)

    def nearest(base: NDArray[np.int64], queries: NDArray[np.int64], groups: NDArray[np.int64]) -> Neighbors:
        """Return the k nearest of some rows, by position; a query is not compared with rows of its group."""
        shape = (len(queries), k)
        found = Neighbors(np.full(shape, np.inf), np.full(shape, -1))
        if not base.size or not queries.size:
            return found
        search = RowSearch(
            Vectors(X, rows[base], groups[base]), metric=metric, device=place, memory_bytes=memory_bytes
        )
        some = min(k, len(base))
        for start in range(0, len(queries), _STEP):
            part = queries[start : start + _STEP]
            near = search.nearest(Vectors(X, rows[part], groups[part]), some)
            taken = slice(start, start + len(part)), slice(0, some)
            found.distances[taken] = near.distances
            found.rows[taken] = np.where(near.rows >= 0, base[near.rows], -1)
            advance(len(part) if groups is not itself else 0)
        return found

    itself = np.arange(len(rows))
    known, unknown = np.flatnonzero(labels >= 0), np.flatnonzero(labels < 0)
    foreignness, nearest_class = np.full(len(rows), np.nan), np.full(len(rows), -1)
    farthest = np.empty(len(rows))
    other = nearest(known, known, labels)
    beside = nearest(unknown, known, itself)
    for label in np.unique(labels[known]):
        of_class = np.flatnonzero(labels[known] == label)
        members = known[of_class]
        own = nearest(members, members, itself)
        whole = np.concatenate([own.distances, other.distances[of_class], beside.distances[of_class]], axis=1)
        farthest[members] = np.partition(whole, k - 1, axis=1)[:, k - 1]
        count = min(k, len(members) - 1)
        if not count or len(members) == len(known):
            continue
        ours, theirs = (
            own.distances[:, count - 1],
            other.distances[of_class, min(count, len(known) - len(members)) - 1],
        )
        total = ours + theirs
        foreignness[members] = np.divide(ours, total, out=np.full(len(total), 0.5), where=total > 0)
        nearest_class[members] = labels[other.rows[of_class, 0]]
    strangers = np.concatenate(
        [nearest(known, unknown, itself).distances, nearest(unknown, unknown, itself).distances], axis=1
    )
    farthest[unknown] = np.partition(strangers, k - 1, axis=1)[:, k - 1]
    advance(len(unknown))
    return NeighbourScores(farthest, foreignness, nearest_class)


def modified_z(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return modified z-scores (Iglewicz & Hoaglin 1993, How to detect and handle outliers).

    The score is 0.6745 (x - median) / MAD, where MAD is the median absolute deviation from the median. If more than
    half of the values are equal, MAD is 0 and the score is (x - median) / (1.2533 * mean absolute deviation). Both
    denominators estimate the standard deviation of normal values. The authors suggest a threshold of 3.5.

    Args:
        values: (n,) values; NaN stays NaN, and does not count.
    """
    known = values[np.isfinite(values)]
    if not known.size:
        return np.full(len(values), np.nan)
    median = np.median(known)
    away = np.abs(known - median)
    scale = np.median(away) / 0.6745 or away.mean() * 1.2533
    gaps = values - median
    return gaps / scale if scale > 0 else np.where(np.isfinite(gaps), 0.0, np.nan)
