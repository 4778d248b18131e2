"""Synthetic features that look like a backbone's: correlated, of very different scales, classes that overlap."""

import numpy as np
import pytest


class Blobs:
    """n rows of d features in k classes."""

    def __init__(self, n, d, k, *, seed=0, dtype=np.float32, separation=1.0):
        rng = np.random.default_rng(seed)
        self.y = rng.permutation(np.arange(n) % k)
        centres = rng.normal(size=(k, 5)) * separation
        mixing = rng.normal(size=(5, d)) * np.geomspace(0.01, 10, d)
        noise = rng.normal(size=(n, d)) * np.geomspace(0.01, 10, d)
        self.X = ((centres[self.y] + rng.normal(size=(n, 5))) @ mixing + noise + 3).astype(dtype)
        self.classes = tuple(f"class {i}" for i in range(k))


@pytest.fixture(scope="session")
def blobs():
    return Blobs(300, 12, 3)


@pytest.fixture(scope="session")
def make_blobs():
    return Blobs
