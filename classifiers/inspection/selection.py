"""Which rows to label next: far from what is labelled, uncertain to a head, or both."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

from frostline.classifiers.errors import HeadError
from frostline.classifiers.inspection.clusters import Prepared
from frostline.classifiers.inspection.duplicates import split_centre
from frostline.numerics.devices import resolve_device
from frostline.numerics.neighbors import MEMORY_BYTES, Metric, RowSearch, Vectors
from frostline.splits import Split

Doubt = Literal["margin", "entropy"]
Rule = Literal["coreset", "uncertainty", "both"]

_STEP = 2048  # rows whose distances are computed at a time


@dataclass(frozen=True, eq=False)
class Chosen:
    """Rows in the order in which they were chosen.

    Attributes:
        rows: (k,) chosen rows.
        distances: (k,) distance of each from the nearest centre when it was chosen, which never increases; infinite for the
            first one if there were no centres. NaN if rows were not chosen by distance.
    """

    rows: NDArray[np.int64]
    distances: NDArray[np.float64]


def rows_to_label(
    X: Any,
    rows: NDArray[np.int64],
    labelled: NDArray[np.int64],
    count: int,
    rule: Rule,
    *,
    doubt: NDArray[np.float64] | None = None,
    pool: int = 4,
    metric: Metric = "cosine",
    seed: int = 0,
    device: str = "auto",
    memory_bytes: int = MEMORY_BYTES,
    advance: Callable[[int], object] = lambda _done: None,
) -> Chosen:
    """Choose rows to label.

    ``coreset``: `k_centres` with the labelled rows as the first centres. ``uncertainty``: the rows of the largest doubt.
    ``both``: `diverse_rows` among the ``pool * count`` rows of the largest doubt.

    Args:
        X: (n, d) floats of any width, e.g. a memory map. Not read for ``uncertainty``.
        rows: (m,) sorted rows to choose from. Their features are finite.
        labelled: (l,) rows that are labelled.
        count: Number of rows to choose, at most m.
        rule: How to choose.
        doubt: (m,) uncertainty of a prediction for each row; not needed for ``coreset``.
        pool: Number of rows per chosen one that ``both`` chooses among.
        metric: ``cosine`` of the features centred on the mean of all these rows, or ``euclidean``.
        seed: Random seed of k-means, and of the first choice of ``coreset`` if there are no labelled rows.
        device: Device of the matrix products of ``coreset``.
        memory_bytes: Limit on the working memory of ``coreset`` in bytes.
        advance: Function that is called with the number of steps of ``coreset`` since the last call, m + count in all.

    Returns:
        The rows in the order in which to label them, and their distances, which are NaN for all but ``coreset``.

    Raises:
        HeadError: There are fewer rows than `count`, doubts are missing, or the device is not available.
    """
    if not 0 <= count <= len(rows):
        raise HeadError(f"count: got {count}, expected 0 to {len(rows)}, the number of rows to choose from")
    if rule != "coreset" and doubt is None:
        raise HeadError(f"{rule}: needs the doubt of each row")
    if doubt is not None and rule == "uncertainty":
        return Chosen(rows[_most(doubt, count)], np.full(count, np.nan))
    compared = np.zeros(X.shape[0], np.uint8)
    compared[labelled] = compared[rows] = Split.TRAIN
    centre = split_centre(X, compared) if metric == "cosine" and compared.any() else None
    if doubt is not None and rule == "both":
        places = np.sort(_most(doubt, pool * count))
        data = Prepared(X, rows[places], centre, unit=metric == "cosine")
        return Chosen(diverse_rows(data, doubt[places], count, seed), np.full(count, np.nan))
    return k_centres(
        X,
        rows,
        labelled,
        count,
        metric=metric,
        centre=centre,
        seed=seed,
        device=device,
        memory_bytes=memory_bytes,
        advance=advance,
    )


def diverse_rows(data: Prepared, doubt: NDArray[np.float64], count: int, seed: int) -> NDArray[np.int64]:
    """Choose uncertain rows that differ: the one of the largest doubt in each cluster, the most uncertain row first.

    The clusters are those of k-means, in which rows are weighted with their doubts, as by Zhdanov 2019 (Diverse mini-batch
    active learning), who takes the row nearest each centre. That the most uncertain one is taken follows Citovsky et al.
    2021 (Batch active learning at scale), whose clusters are hierarchical. If fewer rows differ than are chosen, the
    others follow by doubt. All vectors are held in memory.

    Args:
        data: (m,) rows.
        doubt: (m,) their uncertainty.
        count: Number of rows to choose, at most m.
        seed: Random seed.
    """
    if not 0 < count < len(data):
        return data.rows[_most(doubt, count)]
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    weights = doubt if doubt.any() else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different rows than clusters
        labels = KMeans(count, n_init=1, random_state=seed).fit(data.whole(), sample_weight=weights).labels_
    order = _most(doubt, len(data))
    _, first = np.unique(labels[order], return_index=True)
    chosen = np.sort(first)
    others = np.setdiff1d(np.arange(len(order)), chosen)[: count - len(chosen)]
    rows: NDArray[np.int64] = data.rows[order[np.concatenate([chosen, others])]]
    return rows


def k_centres(
    X: Any,
    rows: NDArray[np.int64],
    centres: NDArray[np.int64],
    count: int,
    *,
    metric: Metric = "cosine",
    centre: NDArray[np.float64] | None = None,
    seed: int = 0,
    device: str = "auto",
    memory_bytes: int = MEMORY_BYTES,
    advance: Callable[[int], object] = lambda _done: None,
) -> Chosen:
    """Choose rows one by one, each the farthest from its nearest centre, which it then becomes itself.

    This is the greedy solution of the k-centre problem (Gonzalez 1985, Clustering to minimize the maximum intercluster
    distance), whose largest distance is at most twice the smallest possible one. Sener & Savarese 2018 (Active learning
    for convolutional neural networks: a core-set approach) choose images to label by it, with the labelled images as the
    first centres. Of equally far rows, the first is chosen.

    The result is that of the plain algorithm. But a distance from the nearest centre only decreases when centres are
    added, so that an earlier one is an upper bound. Only rows whose bound is the largest are compared with later centres
    (Minoux 1978, Accelerated greedy algorithms for maximizing submodular set functions). Distances are those of
    `frostline.numerics.neighbors`, in float64. Beside them, 16 bytes per row are used.

    Args:
        X: (n, d) floats of any width, e.g. a memory map.
        rows: (m,) different rows to choose from. Their features are finite.
        centres: (l,) rows that are centres from the start. Without any, the first choice is random.
        count: Number of rows to choose, at most m.
        metric: ``cosine`` (1 - cosine) or ``euclidean``.
        centre: (d,) vector that is subtracted first.
        seed: Random seed of the first choice if there are no centres.
        device: Device of the matrix products.
        memory_bytes: Limit on working memory in bytes.
        advance: Function that is called with the number of rows compared with the first centres since the last call, m
            in all, and then with 1 for each chosen row.

    Returns:
        The chosen rows and their distances.

    Raises:
        HeadError: There are fewer rows than `count`, or the device is not available.
    """
    if not 0 <= count <= len(rows):
        raise HeadError(f"count: got {count}, expected 0 to {len(rows)}, the number of rows to choose from")
    place = resolve_device(device, HeadError)

    def nearest(index: NDArray[np.int64], queries: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the distance of each query from the nearest of some rows."""
        search = RowSearch(
            Vectors(X, index), metric=metric, device=place, centre=centre, memory_bytes=memory_bytes
        )
        return search.nearest(Vectors(X, queries), 1).distances[:, 0]

    bounds, seen = np.full(len(rows), np.inf), np.zeros(len(rows), np.int64)
    chosen, distances = np.empty(count, np.int64), np.full(count, np.inf)
    for start in range(0, len(rows), _STEP):
        part = slice(start, start + _STEP)
        if len(centres) and count:
            bounds[part] = nearest(centres, rows[part])
        advance(len(rows[part]))
    for number in range(count):
        if not number and not len(centres):
            best = int(np.random.default_rng(seed).integers(len(rows)))
        else:
            best = int(bounds.argmax())
            while seen[best] < number:
                known = int(
                    seen[best]
                )  # rows that know as many centres are compared with the others together
                stale = _largest(np.where(seen == known, bounds, -np.inf), _STEP)
                bounds[stale] = np.minimum(bounds[stale], nearest(rows[chosen[known:number]], rows[stale]))
                seen[stale] = number
                best = int(bounds.argmax())
        chosen[number], distances[number] = best, bounds[best]
        bounds[best] = -np.inf
        advance(1)
    return Chosen(rows[chosen], distances)


def _largest(values: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Return the positions of the largest values that are above minus infinity, at most `count`, sorted."""
    count = min(count, len(values))
    found = np.argpartition(-values, count - 1)[:count]
    return np.sort(found[values[found] > -np.inf])


def doubts(proba: NDArray[np.float64], kind: Doubt) -> NDArray[np.float64]:
    """Return the (n,) uncertainty of (n, k) class probabilities, from 0 for a certain class.

    ``margin``: 1 - (the largest probability - the second largest), up to 1 (Scheffer, Decomain & Wrobel 2001, Active hidden
    Markov models for information extraction). ``entropy``: in nats, up to the logarithm of k (Settles 2009, Active
    learning literature survey).
    """
    if kind == "entropy":
        entropy: NDArray[np.float64] = entr(proba).sum(axis=1)
        return entropy
    if proba.shape[1] < 2:
        return np.zeros(len(proba))
    top = np.partition(proba, -2, axis=1)[:, -2:]
    margin: NDArray[np.float64] = 1 - (top[:, 1] - top[:, 0])
    return margin


def _most(values: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Return the positions of the largest values, the largest first; of equal ones, the first comes first."""
    return np.argsort(-values, kind="stable")[:count]
