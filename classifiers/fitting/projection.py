"""Linear dimensionality reduction of features: principal components or a random projection."""

from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.errors import HeadError

Method = Literal["pca", "random"]

_MOST_ROWS = 2**16  # largest number of rows that a projection is fitted to; more rows change it little


@dataclass(frozen=True)
class ProjectionPlan:
    """Method and width of a projection.

    Attributes:
        method: ``pca``: principal components of the standardised features. ``random``: a Gaussian random
            projection of the standardised features, which approximately preserves distances (Johnson &
            Lindenstrauss 1984). It uses the rows only for mean and standard deviation.
        width: Length of a projected vector.
    """

    method: Method
    width: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a text such as ``pca:256`` or ``random:256``.

        Raises:
            HeadError: The text has another form.
        """
        method, _, width = text.partition(":")
        if method not in get_args(Method) or not width.isdecimal() or int(width) < 1:
            raise HeadError(f"projection: got {text!r}, expected pca:WIDTH or random:WIDTH, e.g. pca:256")
        return cls(method, int(width))  # type: ignore[arg-type]  # validated above

    def __str__(self) -> str:
        return f"{self.method}:{self.width}"


@dataclass(frozen=True, eq=False)
class Projection:
    """Linear map from features to fewer dimensions.

    Attributes:
        plan: Method and width.
        mean: (d,) float32 mean that is subtracted from each row.
        components: (width, d) float32 components, divided by the standard deviations of the features.
    """

    plan: ProjectionPlan
    mean: NDArray[np.float32]
    components: NDArray[np.float32]

    def transform(self, X: NDArray[Any]) -> NDArray[np.float32]:
        """Project (n, d) features to (n, width) float32."""
        centred = np.asarray(X, np.float32) - self.mean
        projected: NDArray[np.float32] = np.matmul(centred, self.components.T)
        return projected


class ProjectedRows:
    """Features (n, width) that are projected when they are read.

    Args:
        source: (n, d) floats, or an object that returns selected rows as an array.
        projection: Projection to apply.
    """

    def __init__(self, source: Any, projection: Projection) -> None:
        self._source, self._projection = source, projection
        self.shape = (source.shape[0], projection.plan.width)
        self.dtype = np.dtype(np.float32)

    def __getitem__(self, rows: Any) -> NDArray[np.float32]:
        """Return (k, width) projected rows."""
        return self._projection.transform(self._source[rows])


def fit_projection(
    X: Any, rows: NDArray[np.integer[Any]], plan: ProjectionPlan, *, seed: int = 0
) -> Projection:
    """Fit a projection to training rows, at most 65,536 of them, evenly spaced.

    Features are standardised first, so that no backbone dominates concatenated features by its scale.

    Args:
        X: (n, d) floats, or an object that returns selected rows as an array.
        rows: (m,) training rows.
        plan: Method and width.
        seed: Random seed of the random projection, and of the randomised solver for wide features.

    Returns:
        The fitted projection.

    Raises:
        HeadError: The width exceeds the number of features or, for principal components, the number of rows, or
            features are not finite.
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
    # As in `frostline.classifiers.numerics.matrices`, the deviation of a constant feature is rounding.
    limits = np.finfo(np.float32)
    deviation[deviation <= np.maximum(10 * limits.eps * np.abs(mean), limits.tiny / limits.eps)] = np.inf
    standard = (taken - mean) / deviation
    if plan.method == "pca":
        with np.errstate(invalid="ignore"):  # explained variance ratio of constant rows
            found = PCA(plan.width, random_state=seed).fit(standard)
    else:
        found = GaussianRandomProjection(plan.width, random_state=seed).fit(standard)
    components = np.asarray(found.components_, np.float32) / deviation
    return Projection(plan, mean, np.ascontiguousarray(components))
