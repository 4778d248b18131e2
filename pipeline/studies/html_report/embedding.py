"""Projection of features to two dimensions."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.pipeline.errors import RunError
from frostline.pipeline.options.studies import MapKind

_NEIGHBOURS = 15  # the default of UMAP


@dataclass(frozen=True, eq=False)
class Map:
    """Two-dimensional projection of rows.

    Attributes:
        points: (n, 2) float64 coordinates.
        axes: Titles of the two axes.
    """

    points: NDArray[np.float64]
    axes: tuple[str, str]


def draw_map(X: NDArray[Any], kind: MapKind, *, seed: int = 0) -> Map | None:
    """Project features to two dimensions; return None for fewer than three rows or if `kind` is ``none``.

    Args:
        X: (n, d) finite features.
        kind: ``pca``: the first two principal components of standardised features. ``umap``: uniform manifold
            approximation with cosine distance (McInnes, Healy & Melville 2018), in which large distances have no
            meaning.
        seed: Random seed.

    Raises:
        RunError: UMAP is not installed.
    """
    check_map(kind)
    if kind == "none" or len(X) < 3:
        return None
    X = np.asarray(X, np.float32)
    if kind == "umap":
        return _umap(X, seed)
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    components = PCA(2, random_state=seed).fit(scaled := StandardScaler().fit_transform(X))
    shares = components.explained_variance_ratio_
    names = (f"component {number} ({share:.0%} of the variance)" for number, share in enumerate(shares, 1))
    first, second = names
    return Map(np.asarray(components.transform(scaled), np.float64), (first, second))


def check_map(kind: MapKind) -> None:
    """Check that a kind of map can be drawn here.

    Raises:
        RunError: UMAP is not installed.
    """
    if kind != "umap":
        return
    try:
        import umap  # noqa: F401
    except ImportError as error:
        raise RunError(
            "--map umap needs umap-learn: pip install 'frostline[umap]'. Or use --map pca."
        ) from error


def _umap(X: NDArray[np.float32], seed: int) -> Map:
    from umap import UMAP

    reducer = UMAP(
        n_neighbors=min(_NEIGHBOURS, len(X) - 1), metric="cosine", random_state=seed, n_jobs=1, init="pca"
    )
    return Map(np.asarray(reducer.fit_transform(X), np.float64), ("UMAP 1", "UMAP 2"))
