"""Rejection of images of none of the known classes, by the distance of their features from the training images."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.errors import HeadError
from frostline.classifiers.protocol.samples import stratified
from frostline.numerics.devices import resolve_device
from frostline.numerics.neighbors import RowSearch, Vectors

MOST_ROWS: Final = 4096
"""Largest number of training rows in a reference."""
MOST_DISTANCES: Final = 10_000
"""Largest number of validation rows that are measured."""

_MOST_VALUES = 2**21  # numbers of a reference, which take 4 MiB


@dataclass(frozen=True, eq=False)
class Rejection:
    """Training rows that stand for the known classes, and the distances of validation rows from them.

    The distance of an image is 1 - the cosine of its features and those of the nearest training row (Sun, Ming, Zhu & Li
    2022, Out-of-distribution detection with deep nearest neighbors, with k = 1).

    Attributes:
        centre: (d,) float32 mean of the training rows, each scaled to unit length.
        rows: (m, d) float16 differences of training rows of unit length from the centre, which is more precise than the rows.
        distances: (v,) float64 distances of validation rows, in ascending order.
    """

    centre: NDArray[np.float32]
    rows: NDArray[np.float16]
    distances: NDArray[np.float64]

    @property
    def dim(self) -> int:
        """Length of a feature vector."""
        return int(self.rows.shape[1])

    @cached_property
    def reference(self) -> NDArray[np.float32]:
        """(m, d) float32 training rows of unit length."""
        return self.rows.astype(np.float32) + self.centre

    def measure(
        self, X: Any, index: NDArray[np.int64] | None = None, *, device: str = "auto"
    ) -> NDArray[np.float64]:
        """Return the (n,) distance of feature vectors from the nearest training row.

        Args:
            X: (n, d) finite floats, or an object that returns selected rows as an array.
            index: Rows to measure; None for all.
            device: Device of the comparison.

        Raises:
            HeadError: The vectors have another length, or the device is not available.
        """
        if X.shape[1] != self.dim:
            raise HeadError(f"features: got {X.shape[1]} per row, expected {self.dim}")
        search = RowSearch(Vectors(self.reference), metric="cosine", device=resolve_device(device, HeadError))
        return search.nearest(Vectors(X, index), 1).distances[:, 0]

    def threshold(self, rate: float) -> float:
        """Return the distance above which an image is rejected.

        Of n validation distances it is the one with rank ceil((n + 1) (1 - rate)). If a new image of a known class is
        exchangeable with the validation images, the probability that it is rejected is at most `rate` (split conformal
        prediction; Vovk, Gammerman & Shafer 2005, Algorithmic learning in a random world). It is a mean over all classes
        and all draws of validation images.

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
                f" choose at least {math.ceil(1e4 / (count + 1)) / 1e4:g}, or train with more validation images"
            )
        return float(self.distances[rank - 1])


def fit_rejection(
    X: Any,
    labels: NDArray[np.int64],
    train: NDArray[np.int64],
    val: NDArray[np.int64],
    *,
    seed: int = 0,
    device: str = "auto",
) -> Rejection:
    """Choose training rows that stand for the classes, and measure validation rows.

    At most 4,096 training rows of 4 MiB in all are chosen, from each class in proportion, and at most 10,000 validation
    rows are measured.

    Args:
        X: (n, d) finite floats, or an object that returns selected rows as an array.
        labels: (n,) classes.
        train: (m,) training rows.
        val: Validation rows.
        seed: Random seed of the choice.
        device: Device of the comparison.

    Raises:
        HeadError: The device is not available.
    """
    most = min(MOST_ROWS, max(1, _MOST_VALUES // X.shape[1]))
    chosen = stratified(train, labels[train], most, seed)
    unit = _unit_rows(X[chosen])
    centre = unit.mean(axis=0).astype(np.float32)
    rows = (unit - centre).astype(np.float16)
    measured = stratified(val, labels[val], MOST_DISTANCES, seed)
    distances = Rejection(centre, rows, np.empty(0)).measure(X, measured, device=device)
    return Rejection(centre, rows, np.sort(distances))


def _unit_rows(X: Any) -> NDArray[np.float64]:
    """Return rows as float64 of unit length; zero vectors stay zero."""
    rows = np.asarray(X, np.float64)
    peaks = np.abs(rows).max(axis=1, keepdims=True, initial=0)
    rows = rows / np.where(peaks > 0, peaks, 1)  # so that squares can't overflow
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1))
