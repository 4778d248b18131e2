"""Clusters of feature vectors by the estimators of scikit-learn, and their agreement with labels."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.errors import HeadError
from frostline.numerics.neighbors import Metric

Method = Literal["kmeans", "mini-batch", "agglomerative", "hdbscan"]

NOISE = -1
"""Cluster of rows that HDBSCAN assigns to none."""

_STARTS = 4  # of k-means, of which the best is kept
_BLOCK = 4096  # rows that are read at a time
_PASSES = 20  # of mini-batch k-means over all rows
_SHIFT = 1e-4  # mean squared movement of the centres, relative to the variance, at which it stops
_SAMPLE = 2048  # rows of the silhouette


@dataclass(frozen=True, eq=False)
class Prepared:
    """Vectors as they are clustered, prepared block by block.

    Attributes:
        X: (n, d) floats of any width, e.g. a memory map, or an object that returns selected rows as an array.
        rows: (m,) sorted rows to cluster. Their features are finite.
        centre: (d,) vector that is subtracted; None for none.
        unit: Whether vectors are then divided by their lengths, so that squared Euclidean distances are twice the cosine
            distances. Zero vectors stay zero.
    """

    X: Any
    rows: NDArray[np.int64]
    centre: NDArray[np.float64] | None
    unit: bool

    @classmethod
    def of(cls, X: Any, rows: NDArray[np.int64], metric: Metric) -> "Prepared":
        """Return vectors as they are for Euclidean distances, and centred on their mean, of unit length, for cosines."""
        if metric == "euclidean":
            return cls(X, rows, None, unit=False)
        total = np.zeros(X.shape[1])
        for start in range(0, len(rows), _BLOCK):
            total += np.asarray(X[rows[start : start + _BLOCK]]).sum(axis=0, dtype=np.float64)
        return cls(X, rows, total / len(rows), unit=True)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def width(self) -> int:
        """Length of a vector."""
        return int(self.X.shape[1])

    def take(self, positions: NDArray[np.int64] | slice) -> NDArray[np.float32]:
        """Return the (k, d) prepared vectors at some positions."""
        taken: Any = np.array(self.X[self.rows[positions]], np.float64 if self.unit else np.float32)
        if self.centre is not None:
            taken -= self.centre
        if self.unit:
            norms = np.linalg.norm(taken, axis=1, keepdims=True)
            taken /= np.where(norms > 0, norms, 1)
        prepared: NDArray[np.float32] = taken.astype(np.float32, copy=False)
        return prepared

    def whole(self) -> NDArray[np.float32]:
        """Return all vectors, (m, d)."""
        found = np.empty((len(self), self.width), np.float32)
        for start in range(0, len(self), _BLOCK):
            found[start : start + _BLOCK] = self.take(slice(start, start + _BLOCK))
        return found


@dataclass(frozen=True, eq=False)
class Clusters:
    """Clusters of m rows, numbered from the largest to the smallest; of equal ones, that of the first row comes first.

    Attributes:
        cluster: (m,) number of each row's cluster, `NOISE` for none.
        centres: (k, d) float64 means of the prepared vectors of each cluster.
        distance: (m,) Euclidean distance of each row from the centre of its cluster, as prepared; NaN for noise.
        probability: (m,) strength of the membership by HDBSCAN, 0 to 1; None for other methods.
        silhouettes: Mean silhouette by number of clusters, if the number was chosen by it.
    """

    cluster: NDArray[np.int64]
    centres: NDArray[np.float64]
    distance: NDArray[np.float64]
    probability: NDArray[np.float64] | None
    silhouettes: dict[int, float]


def memory_needed(method: Method, rows: int, width: int) -> int:
    """Return about how many bytes a method needs, as measured with scikit-learn 1.9 and SciPy 1.17.

    These are its matrices; for ``agglomerative`` the distances of all pairs, twice, in float64.
    """
    if method == "mini-batch":
        return 8 * min(rows, 4 * _BLOCK) * width
    if method == "kmeans":
        return 2 * 4 * rows * width + 16 * rows
    if method == "agglomerative":
        return 8 * rows * (rows - 1) + 12 * rows * width
    return 24 * rows * width + 400 * rows


def fit_clusters(
    data: Prepared,
    method: Method,
    count: int | Literal["auto"] | None,
    *,
    smallest: int = 5,
    seed: int = 0,
    memory: int | None = None,
    advance: Callable[[int], object] = lambda _done: None,
) -> Clusters:
    """Cluster rows. No label is read. There are fewer clusters than asked for if some would be empty.

    ``kmeans``: `sklearn.cluster.KMeans`, the best of four starts (Lloyd 1982; k-means++ of Arthur & Vassilvitskii 2007).
    ``mini-batch``: `sklearn.cluster.MiniBatchKMeans` on shuffled blocks, in memory for single blocks (Sculley 2010).
    ``agglomerative``: `sklearn.cluster.AgglomerativeClustering` with Ward's criterion (Ward 1963). ``hdbscan``:
    `sklearn.cluster.HDBSCAN` (Campello, Moulavi & Sander 2013), which chooses the number of clusters, and leaves rows in
    none.

    Args:
        data: The vectors.
        method: The method.
        count: Number of clusters. ``auto``: the one of 2, 3, 4, 6, 8, 12, ... 64 with the largest mean silhouette
            (Rousseeuw 1987) of at most 2,048 random rows. None for ``hdbscan``.
        smallest: Smallest size of a cluster of ``hdbscan``.
        seed: Random seed.
        memory: Largest number of bytes to use; None for no limit.
        advance: Function that is called with 1 for each number of clusters that was tried.

    Raises:
        HeadError: There are fewer rows than clusters, or the method needs more memory.
    """
    needed = memory_needed(method, len(data), data.width)
    if memory is not None and needed > memory:
        raise HeadError(
            f"{method}: needs about {needed / 1e9:.3g} GB for {len(data)} vectors of {data.width} numbers, more than half of the"
            f" machine's memory ({memory / 1e9:.3g} GB). {_remedy(method, memory, data.width)}"
        )
    fewest = smallest if method == "hdbscan" else 3 if count == "auto" else count or 1
    if len(data) < fewest:
        raise HeadError(
            f"{method}: got {len(data)} vectors, expected at least {fewest} for {count or 'its'} clusters"
        )
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of fewer different rows than clusters
        return _clusters(data, method, count, smallest=smallest, seed=seed, advance=advance)


def _clusters(
    data: Prepared,
    method: Method,
    count: int | Literal["auto"] | None,
    *,
    smallest: int,
    seed: int,
    advance: Callable[[int], object],
) -> Clusters:
    X = data if method == "mini-batch" else data.whole()
    probability: NDArray[np.float64] | None = None
    silhouettes: dict[int, float] = {}
    if method == "hdbscan":
        from sklearn.cluster import HDBSCAN

        model = HDBSCAN(min_cluster_size=smallest, copy=True).fit(X)
        labels, probability = model.labels_, np.asarray(model.probabilities_, np.float64)
        advance(1)
    elif count == "auto":
        labels, silhouettes = _best_count(data, X, method, seed, advance)
    else:
        labels = _fit(X, method, int(count or 1), seed)
        advance(1)
    return _numbered(data, np.asarray(labels, np.int64), probability, silhouettes)


def counts_to_try(rows: int) -> list[int]:
    """Return the numbers of clusters of which ``auto`` chooses one: below the number of rows, at most 64."""
    return [count for k in range(1, 7) for count in (2**k, 3 * 2 ** (k - 1)) if count < min(rows, 65)]


def _remedy(method: Method, memory: int, width: int) -> str:
    if method == "agglomerative":
        most = int((memory / 8) ** 0.5)
        return f"Up to about {most} vectors fit; use --method kmeans."
    return (
        f"Project the features with --project pca:{min(64, max(1, width // 2))}, or use --method mini-batch."
    )


def _fit(X: Any, method: Method, count: int, seed: int) -> NDArray[np.int64]:
    from sklearn.cluster import AgglomerativeClustering, KMeans

    if method == "mini-batch":
        return _mini_batch(X, count, seed)
    model: Any = (
        AgglomerativeClustering(count)
        if method == "agglomerative"
        else KMeans(count, n_init=_STARTS, random_state=seed)
    )
    labels: NDArray[np.int64] = model.fit_predict(X)
    return labels


def _mini_batch(data: Prepared, count: int, seed: int) -> NDArray[np.int64]:
    """Fit to shuffled blocks until the centres rest, and assign all rows."""
    from sklearn.cluster import KMeans, MiniBatchKMeans

    rng = np.random.default_rng(seed)
    sample = data.take(np.sort(rng.permutation(len(data))[: max(_BLOCK, 3 * count)]))
    start = KMeans(count, n_init=_STARTS, random_state=seed).fit(sample).cluster_centers_
    model = MiniBatchKMeans(count, init=start, n_init=1, random_state=seed, reassignment_ratio=0)
    scale = float(sample.var(axis=0, dtype=np.float64).sum())
    before = start
    for _ in range(_PASSES):
        order = rng.permutation(len(data))
        for first in range(0, len(order), _BLOCK):
            model.partial_fit(data.take(np.sort(order[first : first + _BLOCK])))
        if float(((model.cluster_centers_ - before) ** 2).sum(axis=1).mean()) <= _SHIFT * scale:
            break
        before = model.cluster_centers_.copy()
    return np.concatenate(
        [model.predict(data.take(slice(first, first + _BLOCK))) for first in range(0, len(data), _BLOCK)]
    )


def _best_count(
    data: Prepared, X: Any, method: Method, seed: int, advance: Callable[[int], object]
) -> tuple[NDArray[np.int64], dict[int, float]]:
    """Return the labels with the largest mean silhouette of a sample, and the silhouettes; the smallest of equal ones."""
    from sklearn.metrics import silhouette_score

    sample = np.sort(np.random.default_rng(seed).permutation(len(data))[:_SAMPLE])
    points, found = data.take(sample), {}
    best: tuple[float, NDArray[np.int64]] = (-np.inf, np.zeros(len(data), np.int64))
    for count in counts_to_try(len(data)):
        labels = _fit(X, method, count, seed)
        parts = len(np.unique(labels[sample]))
        found[count] = float(silhouette_score(points, labels[sample])) if 1 < parts < len(sample) else -1.0
        if found[count] > best[0]:
            best = (found[count], labels)
        advance(1)
    return best[1], found


def _numbered(
    data: Prepared,
    labels: NDArray[np.int64],
    probability: NDArray[np.float64] | None,
    silhouettes: dict[int, float],
) -> Clusters:
    """Number clusters by size, and compute their centres and the distances from them."""
    known = labels[labels != NOISE]
    names, first, sizes = np.unique(known, return_index=True, return_counts=True)
    order = np.lexsort((first, -sizes))
    number = np.full(int(labels.max(initial=0)) + 2, NOISE)
    number[names[order]] = np.arange(len(names))
    cluster = number[labels]  # the last one is that of noise
    centres = np.zeros((len(names), data.width))
    blocks = [slice(start, start + _BLOCK) for start in range(0, len(data), _BLOCK)]
    for part in blocks:
        inside = cluster[part] != NOISE
        np.add.at(centres, cluster[part][inside], data.take(part)[inside].astype(np.float64))
    centres /= sizes[order][:, None]
    distance = np.full(len(data), np.nan)
    for part in blocks:
        inside = np.flatnonzero(cluster[part] != NOISE)
        gaps = data.take(part)[inside].astype(np.float64) - centres[cluster[part][inside]]
        distance[part.start + inside] = np.linalg.norm(gaps, axis=1)
    return Clusters(cluster, centres, distance, probability, silhouettes)


@dataclass(frozen=True)
class Agreement:
    """Agreement of clusters with classes. Each score is 1 if clusters and classes are the same.

    Attributes:
        rows: Number of rows that were compared.
        nmi: Normalised mutual information: I(U; V) / ((H(U) + H(V)) / 2), in [0, 1] (Strehl & Ghosh 2002, with the arithmetic
            mean as in scikit-learn); 1 if both have one part only.
        ari: Adjusted Rand index: (agreeing pairs - expected) / (maximum - expected), 0 on average for random clusters
            (Hubert & Arabie 1985).
        purity: Share of rows that are of the most frequent class of their cluster (Manning, Raghavan & Schuetze 2008,
            section 16.3). It grows with the number of clusters.
    """

    rows: int
    nmi: float
    ari: float
    purity: float


def contingency(
    cluster: NDArray[np.int64], labels: NDArray[np.int64], shape: tuple[int, int]
) -> NDArray[np.int64]:
    """Return the (clusters, classes) numbers of rows, for rows that have both.

    Args:
        cluster: (m,) cluster of each row, -1 for none.
        labels: (m,) class of each row, -1 for none.
        shape: Number of clusters, and of classes.
    """
    both = (cluster >= 0) & (labels >= 0)
    flat = np.bincount(cluster[both] * shape[1] + labels[both], minlength=shape[0] * shape[1])
    table: NDArray[np.int64] = flat.reshape(shape)
    return table


def agreement(table: NDArray[np.int64]) -> Agreement | None:
    """Return the agreement for a table of `contingency`; None without rows."""
    rows = int(table.sum())
    if not rows:
        return None
    counts = table.astype(np.float64)
    ours, theirs = counts.sum(axis=1), counts.sum(axis=0)
    mean = (_entropy(ours) + _entropy(theirs)) / 2
    mutual = _entropy(ours) + _entropy(theirs) - _entropy(counts.ravel())
    pairs, ours_pairs, theirs_pairs = (
        float((each * (each - 1) / 2).sum()) for each in (counts, ours, theirs)
    )
    expected = ours_pairs * theirs_pairs / max(rows * (rows - 1) / 2, 1)
    most = (ours_pairs + theirs_pairs) / 2
    return Agreement(
        rows,
        nmi=min(max(mutual / mean, 0.0), 1.0) if mean > 0 else 1.0,
        ari=(pairs - expected) / (most - expected) if most != expected else 1.0,
        purity=float(counts.max(axis=1).sum()) / rows,
    )


def _entropy(counts: NDArray[np.float64]) -> float:
    """Return the entropy of a distribution in nats, given counts."""
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log(share)).sum())
