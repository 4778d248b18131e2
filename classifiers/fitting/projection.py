"""Features in fewer dimensions by a linear map: principal components, or a random projection."""

from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.errors import HeadError

Method = Literal["pca", "random"]

_MOST_ROWS = 2**16  # that a projection is fitted on; more would change it little


@dataclass(frozen=True)
class ProjectionPlan:
    """How features are to be projected, and to what width.

    Attributes:
        method: ``pca``: principal components of the standardised features. ``random``: a Gaussian random projection of
            them, which keeps distances (Johnson & Lindenstrauss 1984) and looks at no row but for mean and deviation.
        width: Length of a projected vector.
    """

    method: Method
    width: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``pca:256`` or ``random:256``.

        Raises:
            HeadError: It is something else.
        """
        method, _, width = text.partition(":")
        if method not in get_args(Method) or not width.isdecimal() or int(width) < 1:
            raise HeadError(f"projection: got {text!r}, expected pca:WIDTH or random:WIDTH, e.g. pca:256")
        return cls(method, int(width))  # type: ignore[arg-type]  # one of them, as was checked

    def __str__(self) -> str:
        return f"{self.method}:{self.width}"


@dataclass(frozen=True, eq=False)
class Projection:
    """A linear map from features to fewer of them.

    Attributes:
        plan: What was asked for.
        mean: (d,) float32, subtracted from each row.
        components: (width, d) float32, with what standardises the features in them.
    """

    plan: ProjectionPlan
    mean: NDArray[np.float32]
    components: NDArray[np.float32]

    def transform(self, X: NDArray[Any]) -> NDArray[np.float32]:
        """(n, width) float32 of (n, d) features."""
        centred = np.asarray(X, np.float32) - self.mean
        projected: NDArray[np.float32] = np.matmul(centred, self.components.T)
        return projected


class ProjectedRows:
    """Features (n, width) that are projected as they are read.

    Args:
        source: (n, d) floats, or what gives some of its rows as such.
        projection: The map.
    """

    def __init__(self, source: Any, projection: Projection) -> None:
        self._source, self._projection = source, projection
        self.shape = (source.shape[0], projection.plan.width)
        self.dtype = np.dtype(np.float32)

    def __getitem__(self, rows: Any) -> NDArray[np.float32]:
        """Some rows, (k, width)."""
        return self._projection.transform(self._source[rows])


def fit_projection(
    X: Any, rows: NDArray[np.integer[Any]], plan: ProjectionPlan, *, seed: int = 0
) -> Projection:
    """Find a projection from some rows alone, at most 65,536 of them, evenly spaced.

    Features are standardised first, so that of several backbones side by side none rules by its unit.

    Args:
        X: (n, d) floats, or what gives some of its rows as such.
        rows: (m,) training rows.
        plan: Method and width.
        seed: Of the random projection, and of the randomised solver behind wide ones.

    Raises:
        HeadError: A width beyond that of the features, or beyond the rows that principal components are found from;
            features that aren't finite.
    """
    from sklearn.decomposition import PCA
    from sklearn.random_projection import GaussianRandomProjection

    if len(rows) > _MOST_ROWS:
        rows = rows[np.linspace(0, len(rows) - 1, _MOST_ROWS).astype(np.int64)]
    limit = min(X.shape[1], len(rows)) if plan.method == "pca" else X.shape[1]
    if plan.width > limit:
        raise HeadError(
            f"projection {plan}: got {len(rows)} training rows of {X.shape[1]} features, expected at least"
            f" {plan.width}{' of both' if plan.method == 'pca' else ' features'}; choose a width up to {limit}"
        )
    taken = np.asarray(X[rows], np.float32)
    if not np.isfinite(taken).all():
        raise HeadError(f"projection {plan}: the features of some training rows are not finite")
    mean = taken.mean(axis=0, dtype=np.float64).astype(np.float32)
    deviation = taken.std(axis=0, dtype=np.float64).astype(np.float32)
    limits = np.finfo(
        np.float32
    )  # as in `classifiers.numerics.matrices`: what a constant feature has left is rounding
    deviation[deviation <= np.maximum(10 * limits.eps * np.abs(mean), limits.tiny / limits.eps)] = np.inf
    standard = (taken - mean) / deviation
    if plan.method == "pca":
        with np.errstate(invalid="ignore"):  # shares of no variance at all
            found = PCA(plan.width, random_state=seed).fit(standard)
    else:
        found = GaussianRandomProjection(plan.width, random_state=seed).fit(standard)
    components = np.asarray(found.components_, np.float32) / deviation
    return Projection(plan, mean, np.ascontiguousarray(components))
