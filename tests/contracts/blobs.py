"""Synthetic features like a backbone's."""

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Blobs:
    """Features with correlations and very different scales, whose classes overlap.

    Attributes:
        X: (n, d) features.
        y: (n,) int64 labels.
        classes: Names of the k classes.

    Args:
        n: Number of rows.
        d: Length of a feature vector.
        k: Number of classes.
        seed: Random seed.
        dtype: Number format of the features.
        separation: Distance between the classes, relative to their width.
    """

    def __init__(
        self,
        n: int,
        d: int,
        k: int,
        *,
        seed: int = 0,
        dtype: DTypeLike = np.float32,
        separation: float = 1.0,
    ) -> None:
        rng = np.random.default_rng(seed)
        self.y: NDArray[np.int64] = rng.permutation(np.arange(n) % k)
        centres = rng.normal(size=(k, 5)) * separation
        mixing = rng.normal(size=(5, d)) * np.geomspace(0.01, 10, d)
        noise = rng.normal(size=(n, d)) * np.geomspace(0.01, 10, d)
        self.X = ((centres[self.y] + rng.normal(size=(n, 5))) @ mixing + noise + 3).astype(dtype)
        self.classes = tuple(f"class {i}" for i in range(k))
