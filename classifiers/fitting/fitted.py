"""A fitted head: features in, probabilities of every class out, in bounded memory."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.metrics.pairwise import euclidean_distances

from frostline.classifiers.errors import HeadError
from frostline.classifiers.fitting.projection import Projection
from frostline.classifiers.heads.catalog import recorded_head
from frostline.classifiers.heads.kinds import HeadKind
from frostline.classifiers.numerics.selected_rows import as_floats, release, spans

_LEAST = 1e-12  # added to probabilities before the logarithm, as in scikit-learn


@dataclass(frozen=True)
class Curve:
    """How scores run along a regularisation path or over the epochs of a training.

    Attributes:
        x_label: What x is: ``l2``, ``C``, ``epoch`` ...
        x: Positions, in the order they were computed.
        series: One value per position, by name: ``validation accuracy``, ``train loss`` ...
        chosen: The position that was kept.
        log_x: Whether x spans orders of magnitude.
    """

    x_label: str
    x: tuple[float, ...]
    series: Mapping[str, tuple[float, ...]]
    chosen: float
    log_x: bool

    def to_csv(self, path: str | Path) -> None:
        """Write one line per position: x, then each series."""
        with Path(path).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([self.x_label, *self.series])
            writer.writerows(zip(self.x, *self.series.values(), strict=True))


@dataclass(frozen=True, eq=False)
class Verdicts:
    """What a head says of some rows.

    Attributes:
        predicted: (n,) int64 index of the most probable class.
        probability: (n,) float64 its probability.
    """

    predicted: NDArray[np.int64]
    probability: NDArray[np.float64]

    @classmethod
    def of(cls, proba: NDArray[np.float64]) -> Self:
        """The most probable class of each row of (n, k) probabilities, the first of equals."""
        return cls(proba.argmax(axis=1), proba.max(axis=1, initial=0))


@dataclass(frozen=True)
class FittedHead:
    """A head that was fitted, and how it was chosen.

    Attributes:
        name: Kind of head.
        estimator: The fitted scikit-learn estimator; its labels are indices into classes.
        classes: The k class names.
        params: All parameters, the chosen ones included.
        trials: What was tried: the searched parameters, ``accuracy`` and ``log_loss`` on validation (None without such
            rows), ``seconds``, and ``converged``.
        curve: Regularisation path or learning curve; None where nothing varied.
        validation: ``accuracy``, ``log_loss`` and ``rms_calibration_error`` of the chosen head on validation rows, before any
            refit, and the latter two before its temperature, ``uncalibrated_log_loss`` and
            ``uncalibrated_rms_calibration_error``; empty without such rows.
        temperature: Divides the logits (scores, or log probabilities) before the softmax; fitted on validation rows before
            any refit, 1 without such rows.
        seconds: Wall time of search and fit.
        dim: Length of a feature vector.
        dtype: Number format of the features it was fitted to.
        projection: What brings features to the width that the estimator reads; none where it reads them as they are.
        verdicts: On the validation rows, ascending, of the head that `validation` scores; none where it was loaded.
    """

    name: str
    estimator: Any
    classes: tuple[str, ...]
    params: Mapping[str, Any]
    trials: tuple[Mapping[str, Any], ...]
    curve: Curve | None
    validation: Mapping[str, float]
    temperature: float
    seconds: float
    dim: int
    dtype: str
    projection: Projection | None = None
    verdicts: Verdicts | None = None

    @property
    def kind(self) -> HeadKind:
        """Its kind; that of a head from outside is not imported again."""
        return recorded_head(self.name)

    def predict_proba(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """(n, k) calibrated probabilities of the classes for (n, d) features; 0 for classes that were not trained on.

        Features are read in chunks, e.g. from a memory map.

        Raises:
            HeadError: Features of another length, not floats, or not finite.
        """
        return softened(self.logits(X), self.temperature)

    def logits(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """(n, k) whose softmax is the probabilities before calibration; -inf for classes that were not trained on.

        Raises as `predict_proba`.
        """
        if X.ndim != 2 or X.shape[1] != self.dim:
            raise HeadError(
                f"features: got shape {X.shape}, expected (n, {self.dim}), as this head was fitted to"
            )
        found = np.empty((len(X), len(self.classes)))
        for part in spans(len(X), self.dim):
            rows = as_floats(X[part], np.arange(part.start, part.stop))
            if self.projection:
                rows = self.projection.transform(rows)
            found[part] = logits(self.kind, self.estimator, rows, len(self.classes))
            release(X)
        return found

    def predict(self, X: NDArray[Any]) -> NDArray[np.int64]:
        """(n,) index of the most probable class; raises as `predict_proba`."""
        chosen: NDArray[np.int64] = self.predict_proba(X).argmax(axis=1)
        return chosen


def gives(kind: HeadKind, estimator: Any) -> str:
    """What a fitted estimator's scores are; see `HeadKind.scores`.

    Raises:
        HeadError: It has no scores, only labels.
    """
    if kind.scores != "auto":
        return kind.scores
    if hasattr(estimator, "predict_proba"):
        return "proba"
    if hasattr(estimator, "decision_function"):
        return "decision"
    raise HeadError(
        f"head {kind.name!r} gives labels only, expected predict_proba or decision_function; choose another"
    )


def logits(kind: HeadKind, estimator: Any, X: NDArray[Any], n_classes: int) -> NDArray[np.float64]:
    """(n, n_classes) scores or log probabilities by a fitted estimator whose labels are class indices, -inf for others."""
    found = np.full((len(X), n_classes), -np.inf)
    found[:, estimator.classes_] = _own_logits(kind, estimator, X)
    return found


def _own_logits(kind: HeadKind, estimator: Any, X: NDArray[Any]) -> NDArray[np.float64]:
    given = gives(kind, estimator)
    if given == "distance":
        distances = euclidean_distances(estimator[:-1].transform(X), estimator[-1].centroids_, squared=True)
        return -np.asarray(distances, np.float64)
    if given == "proba":
        return np.log(np.asarray(estimator.predict_proba(X), np.float64) + _LEAST)
    margins = np.asarray(estimator.decision_function(X), np.float64)
    return np.stack([np.zeros_like(margins), margins], axis=1) if margins.ndim == 1 else margins


def softened(found: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """(n, k) probabilities, each row of sum 1, of logits at a temperature."""
    proba: NDArray[np.float64] = softmax(found / temperature, axis=1)
    return proba
