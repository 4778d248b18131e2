"""Rejection of images of none of the known classes, by the Mahalanobis distance of their features."""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.errors import HeadError

RANK: Final = 64
"""Largest number of directions whose variance is estimated on its own."""

_MOST_ROWS = 2**14  # largest number of rows that the covariance is fitted to
_MOST_DISTANCES = 2**16  # largest number of validation rows that are measured
_BLOCK_VALUES = 2**21


@dataclass(frozen=True, eq=False)
class Rejection:
    """Means and shared covariance of the known classes, and the distances of validation rows.

    The distance of an image is the Mahalanobis distance of its features from the nearest class mean (Lee, Lee, Lee & Shin
    2018, A simple unified framework for detecting out-of-distribution samples and adversarial attacks). Features are
    scaled to unit length first (Mueller & Hein 2025, Mahalanobis++). The covariance is that of probabilistic principal
    components (Tipping & Bishop 1999): the largest variances within the classes, with one variance in all other
    directions.

    Attributes:
        means: (k, d) float32 means of the classes that have training rows.
        components: (r, d) float32 orthonormal directions of the largest variances.
        variances: (r,) float64 variances in these directions.
        noise: Variance in every other direction.
        distances: (v,) float64 distances of validation rows in ascending order, which the reference was not fitted to.
    """

    means: NDArray[np.float32]
    components: NDArray[np.float32]
    variances: NDArray[np.float64]
    noise: float
    distances: NDArray[np.float64]

    @property
    def dim(self) -> int:
        """Length of a feature vector."""
        return int(self.means.shape[1])

    def measure(self, X: Any, rows: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """Return the (n,) distance of feature vectors from the nearest class.

        Args:
            X: (n, d) finite floats, or an object that returns selected rows as an array.
            rows: Rows to measure; None for all.

        Raises:
            HeadError: The vectors have another length.
        """
        if X.shape[1] != self.dim:
            raise HeadError(f"features: got {X.shape[1]} per row, expected {self.dim}")
        rows = np.arange(X.shape[0]) if rows is None else rows
        found = np.empty(len(rows))
        # 1 / noise - 1 / variance of each component, by which its part of the squared distance is too large
        excess = 1 / self.noise - 1 / self.variances
        means, components = self.means.astype(np.float64), self.components.astype(np.float64)
        placed, lengths = means @ components.T, (means**2).sum(axis=1)
        step = max(1, _BLOCK_VALUES // max(self.dim, len(means)))
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            unit = unit_rows(X[rows[part]])
            squared = (unit**2).sum(axis=1)[:, None] - 2 * unit @ means.T + lengths
            inner = unit @ components.T
            weighted = (inner**2 @ excess)[:, None] - 2 * (inner * excess) @ placed.T + placed**2 @ excess
            nearest = (squared / self.noise - weighted).min(axis=1)
            found[part] = np.sqrt(np.maximum(nearest, 0))
        return found

    def threshold(self, rate: float) -> float:
        """Return the distance above which an image is rejected.

        Of n validation distances it is the one with rank ceil((n + 1) (1 - rate)). If a new image of a known class is
        exchangeable with the validation images, the probability that it is rejected is at most `rate` (split conformal
        prediction; Vovk, Gammerman & Shafer 2005, Algorithmic learning in a random world).

        Args:
            rate: Largest share of images of known classes that may be rejected, above 0 and below 1.

        Raises:
            HeadError: There are fewer than 1 / rate - 1 validation distances.
        """
        if not 0 < rate < 1:
            raise HeadError(f"rate of rejection: got {rate}, expected a number above 0 and below 1")
        count = len(self.distances)
        rank = count + 1 - math.floor((count + 1) * rate + 1e-9)
        if rank > count:
            least = math.ceil(1 / rate - 1e-9) - 1
            raise HeadError(
                f"rate of rejection: got {rate:g}, which takes at least {least} validation images, and the run has {count};"
                f" choose at least {1 / (count + 1):.3g}, or train on more images"
            )
        return float(self.distances[rank - 1])


def fit_rejection(
    X: Any, labels: NDArray[np.int64], train: NDArray[np.int64], val: NDArray[np.int64], *, seed: int = 0
) -> Rejection:
    """Fit the reference to training rows, and measure validation rows.

    The means are those of all training rows. The covariance is fitted to at most 16,384 of them, and at most 65,536
    validation rows are measured, evenly spaced.

    Args:
        X: (n, d) finite floats, or an object that returns selected rows as an array.
        labels: (n,) classes.
        train: (m,) training rows.
        val: Validation rows, which are not fitted to.
        seed: Random seed of the singular value decomposition.
    """
    from sklearn.utils.extmath import randomized_svd

    codes, position = np.unique(labels[train], return_inverse=True)
    means = _means(X, train, position, len(codes)).astype(np.float32)
    chosen = _evenly(np.arange(len(train)), _MOST_ROWS)
    residuals = np.empty((len(chosen), X.shape[1]), np.float32)
    for part in _parts(len(chosen), X.shape[1]):
        some = chosen[part]
        residuals[part] = unit_rows(X[train[some]]) - means[position[some]]
    freedom = max(1, len(chosen) - len(codes))
    total = float(np.einsum("ij,ij->", residuals, residuals, dtype=np.float64)) / freedom
    rank = max(0, min(RANK, X.shape[1] // 2, (len(chosen) - len(codes)) // 2))
    components, variances = np.empty((0, X.shape[1]), np.float32), np.empty(0)
    if total <= np.finfo(np.float32).eps ** 2:  # one training row per class, or equal ones
        noise = 1.0
    else:
        if rank:
            _, values, found = randomized_svd(residuals, rank, random_state=seed)
            components, variances = found.astype(np.float32), values.astype(np.float64) ** 2 / freedom
        noise = max((total - variances.sum()) / (X.shape[1] - rank), 1e-9 * total)
        variances = np.maximum(variances, noise)
    fitted = Rejection(means, np.ascontiguousarray(components), variances, noise, np.empty(0))
    distances = np.sort(fitted.measure(X, _evenly(val, _MOST_DISTANCES)))
    return Rejection(fitted.means, fitted.components, variances, noise, distances)


def unit_rows(X: Any) -> NDArray[np.float64]:
    """Return rows as float64 of unit length; zero vectors stay zero."""
    rows = np.asarray(X, np.float64)
    peaks = np.abs(rows).max(axis=1, keepdims=True, initial=0)
    rows = rows / np.where(peaks > 0, peaks, 1)  # squares can't overflow
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1))


def _means(X: Any, train: NDArray[np.int64], position: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Return the (count, d) mean of the unit vectors of each class."""
    sums = np.zeros((count, X.shape[1]))
    for part in _parts(len(train), X.shape[1]):
        np.add.at(sums, position[part], unit_rows(X[train[part]]))
    return sums / np.bincount(position, minlength=count)[:, None]


def _parts(rows: int, width: int) -> list[slice]:
    step = max(1, _BLOCK_VALUES // width)
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def _evenly(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]
