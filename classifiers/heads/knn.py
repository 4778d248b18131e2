"""The k-nearest-neighbours head: exact search in bounded memory on a CPU or a GPU."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import assert_all_finite
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from frostline.classifiers.errors import HeadError
from frostline.classifiers.heads.kinds import HeadKind
from frostline.classifiers.heads.parameters import POSITIVE, Parameter, by_name, one_of, whole
from frostline.numerics.devices import resolve_device
from frostline.numerics.neighbors import MEMORY_BYTES, Metric, Neighbors, RowSearch, Vectors

Weights = Literal["uniform", "distance", "softmax"]

_FLOATS = [np.float64, np.float32, np.float16]
_BLOCK_BYTES = 2**24  # size of the blocks in which rows are checked


class KNNHead(ClassifierMixin, BaseEstimator):
    """Classifier by a vote of the k nearest training rows.

    The search is exact: neighbours are ranked by float64 distances, and ties are broken in favour of the lowest
    row. The search works in blocks and reads training rows in place, e.g. from a float16 memory map. Apart from
    its inputs and results, it uses at most ``memory_bytes``.

    Args:
        n_neighbors: Number of neighbours that vote.
        metric: ``cosine`` (1 - cosine; a zero vector has distance 1 to every row) or ``euclidean``.
        weights: Weight of a vote. ``uniform``: 1. ``distance``: 1 / distance; if a distance is 0, only neighbours
            at distance 0 vote. ``softmax``: exp(cosine / temperature), the protocol of Wu et al. 2018
            (Unsupervised feature learning via non-parametric instance discrimination) and of DINO (Caron et al.
            2021). For ``euclidean``, ``softmax`` is exp(-distance^2 / (2 temperature)), which is equivalent on
            unit vectors.
        temperature: Temperature of ``softmax``, above 0.
        device: Device of the similarities: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        memory_bytes: Limit on working memory in bytes, on the device and the host.

    Attributes:
        classes_: (k,) sorted labels.
        rows_: (n, d) training rows. They are copied only if the checks of scikit-learn require a copy.
        targets_: (n,) int64 index into ``classes_`` of each training row.
        n_features_in_: Length d of a feature vector.
    """

    def __init__(
        self,
        n_neighbors: int = 10,
        *,
        metric: Metric = "cosine",
        weights: Weights = "uniform",
        temperature: float = 0.07,
        device: str = "auto",
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.metric = metric
        self.weights = weights
        self.temperature = temperature
        self.device = device
        self.memory_bytes = memory_bytes

    def fit(self, X: Any, y: Any) -> Self:
        """Store the training rows.

        Args:
            X: (n, d) float16, float32 or float64.
            y: (n,) labels.

        Raises:
            HeadError: A parameter is out of range, or there are fewer rows than neighbours.
        """
        self._check_parameters()
        X, y = validate_data(self, X, y, dtype=_FLOATS, ensure_all_finite=False)
        _check_finite(X)
        check_classification_targets(y)
        if len(X) < self.n_neighbors:
            raise HeadError(
                f"n_neighbors: got {self.n_neighbors} and n_samples = {len(X)} training rows, "
                "expected at least as many rows as neighbours; lower n_neighbors"
            )
        self.classes_, targets = np.unique(y, return_inverse=True)
        self.targets_: NDArray[np.int64] = targets.astype(np.int64)
        self.rows_: NDArray[Any] = X
        return self

    def kneighbors(self, X: Any = None, n_neighbors: int | None = None) -> Neighbors:
        """Find the nearest training rows.

        Args:
            X: (q, d) rows; None for the training rows, each without itself.
            n_neighbors: Number of neighbours; None for that of the estimator.

        Returns:
            Distances (q, k) float64, nearest first, and training rows (q, k) int64.

        Raises:
            HeadError: There are fewer training rows than neighbours.
        """
        check_is_fitted(self)
        count = self.n_neighbors if n_neighbors is None else n_neighbors
        others = len(self.rows_) - (X is None)
        if not 1 <= count <= others:
            raise HeadError(f"n_neighbors: got {count}, expected 1 to {others}, the number of training rows")
        search = RowSearch(
            Vectors(self.rows_),
            metric=self.metric,
            device=resolve_device(self.device, HeadError),
            memory_bytes=self.memory_bytes,
        )
        if X is None:
            return _without_self(search.nearest(Vectors(self.rows_), count + 1))
        X = validate_data(self, X, dtype=_FLOATS, ensure_all_finite=False, reset=False)
        _check_finite(X)
        return search.nearest(Vectors(X), count)

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the (q, k) float64 share of the votes of each class."""
        check_is_fitted(self)
        found = self.kneighbors(X)
        votes = np.zeros((len(found.rows), len(self.classes_)))
        np.add.at(
            votes, (np.arange(len(votes))[:, None], self.targets_[found.rows]), self._votes(found.distances)
        )
        votes /= votes.sum(axis=1, keepdims=True)
        return votes

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the (q,) labels with the most votes; ties are broken in the order of ``classes_``."""
        votes = self.predict_proba(X)
        labels: NDArray[Any] = self.classes_[votes.argmax(axis=1)]
        return labels

    def _votes(self, distances: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.weights == "uniform":
            return np.ones_like(distances)
        if self.weights == "distance":
            # Weights relative to the nearest neighbour cannot overflow.
            nearest = distances[:, :1]
            ratios = np.divide(nearest, distances, out=np.zeros_like(distances), where=distances > 0)
            return np.where(nearest == 0, (distances == 0).astype(np.float64), ratios)
        similarity = -distances if self.metric == "cosine" else -(distances**2) / 2
        return np.exp((similarity - similarity[:, :1]) / self.temperature)

    def _check_parameters(self) -> None:
        choices = {"metric": ("cosine", "euclidean"), "weights": ("uniform", "distance", "softmax")}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise HeadError(f"{name}: got {getattr(self, name)!r}, expected one of {', '.join(known)}")
        for name in ("n_neighbors", "memory_bytes"):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
                raise HeadError(f"{name}: got {value!r}, expected a whole number, at least 1")
        if not 0 < self.temperature < np.inf:
            raise HeadError(f"temperature: got {self.temperature!r}, expected a number above 0")
        resolve_device(self.device, HeadError)


def _without_self(found: Neighbors) -> Neighbors:
    """Drop each row from its own neighbours, or the last neighbour if equal rows precede the row."""
    own = found.rows == np.arange(len(found.rows))[:, None]
    own[:, -1] |= ~own.any(axis=1)
    shape = (len(own), own.shape[1] - 1)
    return Neighbors(found.distances[~own].reshape(shape), found.rows[~own].reshape(shape))


def _check_finite(X: NDArray[Any]) -> None:
    for block in _blocks(X):
        assert_all_finite(block, input_name="X")


def _blocks(X: NDArray[Any]) -> Iterator[NDArray[Any]]:
    step = max(1, _BLOCK_BYTES // (8 * X.shape[1]))
    return (X[start : start + step] for start in range(0, len(X), step))


def _build(params: Mapping[str, Any], _seed: int, device: str) -> Any:
    head = KNNHead(device=device, **params)
    return make_pipeline(head) if params["metric"] == "cosine" else make_pipeline(StandardScaler(), head)


KNN = HeadKind(
    name="knn",
    summary="k nearest neighbours, by exact search in torch",
    parameters=by_name(
        Parameter("n_neighbors", 10, whole(1), "number of training rows that vote"),
        Parameter("metric", "cosine", one_of(*get_args(Metric)), "distance; euclidean standardises"),
        Parameter("weights", "uniform", one_of(*get_args(Weights)), "weights of the votes"),
        Parameter("temperature", 0.07, POSITIVE, "temperature of softmax weights"),
    ),
    build=_build,
    grid=lambda _: {"n_neighbors": (50, 20, 10, 5, 3, 1)},
)
