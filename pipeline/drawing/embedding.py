"""Projection of features to two dimensions."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.fitting.projection import ProjectionPlan, fit_projection
from frostline.pipeline.errors import RunError
from frostline.pipeline.options.studies import MapKind

_NEIGHBOURS = 15  # the default of UMAP
_PERPLEXITY = 30  # the default of scikit-learn
_COMPONENTS = 50  # of the principal components that t-SNE reads, as van der Maaten & Hinton recommend
_BLOCK_BYTES = 2**24


@dataclass(frozen=True, eq=False)
class Map:
    """Two-dimensional projection of rows.

    Attributes:
        points: (n, 2) float64 coordinates.
        axes: Titles of the two axes.
    """

    points: NDArray[np.float64]
    axes: tuple[str, str]


def draw_map(
    X: Any, kind: MapKind, *, rows: NDArray[np.int64] | None = None, seed: int = 0, option: str = "--map"
) -> Map | None:
    """Project features to two dimensions; return None for fewer than three rows or if `kind` is ``none``.

    All kinds begin with standardised features. Principal components are fitted to at most 65,536 rows; see
    `frostline.classifiers.fitting.projection.fit_projection`. Distances within a map of t-SNE or UMAP have no meaning
    except that neighbours are similar.

    Args:
        X: (n, d) finite features, or an object that returns selected rows as an array.
        kind: ``pca``: the first two principal components. ``tsne``: t-distributed stochastic neighbour embedding of the
            first 50 principal components (van der Maaten & Hinton 2008), by scikit-learn's Barnes-Hut approximation.
            ``umap``: uniform manifold approximation with cosine distance of the features (McInnes, Healy & Melville
            2018).
        rows: Rows to project; None for all.
        seed: Random seed.
        option: Option that names the kind, for error messages.

    Raises:
        RunError: UMAP is not installed.
        HeadError: Features are not finite.
    """
    check_map(kind, option)
    rows = np.arange(X.shape[0]) if rows is None else rows
    if kind == "none" or len(rows) < 3:
        return None
    if kind == "umap":
        return _umap(np.concatenate(list(_blocks(X, rows))), seed)
    if kind == "tsne":
        return _tsne(_components(X, rows, _COMPONENTS, seed)[0], seed)
    points, shares = _components(X, rows, 2, seed)
    names = (f"component {number} ({share:.0%} of the variance)" for number, share in enumerate(shares, 1))
    first, second = names
    return Map(points.astype(np.float64), (first, second))


def check_map(kind: MapKind, option: str = "--map") -> None:
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
            f"{option} umap needs umap-learn: pip install 'frostline[umap]'. Or use {option} pca."
        ) from error


def _components(
    X: Any, rows: NDArray[np.int64], most: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return the first principal components of standardised rows, at least two, and their shares of the variance."""
    width = min(most, X.shape[1], len(rows))
    projection = fit_projection(X, rows, ProjectionPlan("pca", width), seed=seed)
    found = np.concatenate([projection.transform(block) for block in _blocks(X, rows)])
    varying = int((projection.components != 0).any(axis=0).sum())  # features whose variance is 1
    shares = found.var(axis=0, dtype=np.float64) / max(varying, 1)
    lacking = ((0, 0), (0, max(0, 2 - width)))
    return np.pad(found, lacking), np.pad(shares, lacking[1])


def _blocks(X: Any, rows: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
    step = max(1, _BLOCK_BYTES // (4 * X.shape[1]))
    for start in range(0, len(rows), step):
        yield np.asarray(X[rows[start : start + step]], np.float32)


def _tsne(components: NDArray[np.float32], seed: int) -> Map:
    from sklearn.manifold import TSNE

    perplexity = min(_PERPLEXITY, (len(components) - 1) / 3)
    flat = bool((components == components[0]).all())  # equal rows have no principal components to begin with
    reducer = TSNE(2, perplexity=perplexity, init="random" if flat else "pca", random_state=seed)
    return Map(np.asarray(reducer.fit_transform(components), np.float64), ("t-SNE 1", "t-SNE 2"))


def _umap(X: NDArray[np.float32], seed: int) -> Map:
    from umap import UMAP

    reducer = UMAP(
        n_neighbors=min(_NEIGHBOURS, len(X) - 1), metric="cosine", random_state=seed, n_jobs=1, init="pca"
    )
    return Map(np.asarray(reducer.fit_transform(X), np.float64), ("UMAP 1", "UMAP 2"))
