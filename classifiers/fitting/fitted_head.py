"""Fitted heads: prediction of calibrated class probabilities in bounded memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.metrics.pairwise import euclidean_distances

from frostline.classifiers.errors import HeadError
from frostline.classifiers.fitting.columns import ColumnEncoding
from frostline.classifiers.fitting.projection import Projection
from frostline.classifiers.heads.catalog import recorded_head
from frostline.classifiers.heads.kinds import HeadKind
from frostline.classifiers.numerics.selected_rows import as_floats, release, spans
from frostline.csv_cells import CsvWriter
from frostline.errors import FrostlineError
from frostline.system.atomic import write_text_file

_LEAST = 1e-12  # added to probabilities before the logarithm, as in scikit-learn


@dataclass(frozen=True)
class Curve:
    """Scores along a regularisation path or over the epochs of a training.

    Attributes:
        x_label: Name of x: ``l2``, ``C``, ``epoch`` ...
        x: Positions, in the order of computation.
        series: Values at all positions, by name: ``validation accuracy``, ``train loss`` ...
        chosen: The chosen position.
        log_x: Whether x spans orders of magnitude.
    """

    x_label: str
    x: tuple[float, ...]
    series: Mapping[str, tuple[float, ...]]
    chosen: float
    log_x: bool

    def to_csv(self, path: str | Path) -> None:
        """Write a CSV file with one line per position: x, then each series."""
        with write_text_file(Path(path)) as file:
            rows = zip(self.x, *self.series.values(), strict=True)
            CsvWriter(file, [self.x_label, *self.series]).write_all(rows)


@dataclass(frozen=True, eq=False)
class HeadPredictions:
    """Predictions of a head.

    Attributes:
        predicted: (n,) int64 index of the most probable class.
        probability: (n,) float64 probability of this class.
    """

    predicted: NDArray[np.int64]
    probability: NDArray[np.float64]

    @classmethod
    def of(cls, proba: NDArray[np.float64]) -> Self:
        """Return the most probable class of each row of (n, k) probabilities; ties take the first class."""
        return cls(proba.argmax(axis=1), proba.max(axis=1, initial=0))


@dataclass(frozen=True)
class FittedHead:
    """Fitted head, with the trials of its hyper-parameter search.

    Attributes:
        name: Kind of head.
        estimator: Fitted scikit-learn estimator whose labels are indices into classes.
        classes: The k class names.
        params: All parameters, including the chosen ones.
        trials: Searched parameters of each trial, ``accuracy`` and ``log_loss`` on validation rows (None without
            validation rows), ``seconds``, and ``converged``.
        curve: Regularisation path or learning curve; None if no single number varied.
        validation: ``accuracy``, ``log_loss`` and ``rms_calibration_error`` of the chosen head on validation rows,
            before any refit. ``uncalibrated_log_loss`` and ``uncalibrated_rms_calibration_error`` are the values
            before temperature scaling. Empty without validation rows.
        temperature: Divisor of the logits (scores, or log probabilities) before the softmax. It is fitted to
            validation rows before any refit, and 1 without validation rows.
        seconds: Wall time of search and fit in seconds.
        dim: Length of a feature vector.
        dtype: Number format of the features that the head was fitted to.
        projection: Projection of features to fewer dimensions; None without a projection.
        columns: Encoding of the side columns that follow the features; None without side columns.
        validation_predictions: Predictions of the head scored in `validation` for the validation rows, in ascending
            order; None for a loaded head.
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
    columns: ColumnEncoding | None = None
    validation_predictions: HeadPredictions | None = None

    @property
    def kind(self) -> HeadKind:
        """Kind of head; a third-party head is not imported again."""
        return recorded_head(self.name)

    @property
    def given_width(self) -> int:
        """Length of the rows that the head is given: features, and encoded side columns."""
        return self.dim + (self.columns.width if self.columns else 0)

    @property
    def width(self) -> int:
        """Length of the rows that the estimator reads."""
        return (self.projection.plan.width - self.dim if self.projection else 0) + self.given_width

    def predict_proba(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Return (n, k) calibrated probabilities of (n, given_width) rows; 0 for classes without training rows.

        Rows are features, followed by the encoded side columns if the head reads some. They are read in chunks, e.g. from a memory map.

        Raises:
            HeadError: The features have another length, are not floats, or are not finite.
        """
        return softened(self.logits(X), self.temperature)

    def logits(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Return (n, k) uncalibrated logits of (n, given_width) rows; -inf for classes without training rows.

        Raises:
            HeadError: The features have another length, are not floats, or are not finite.
        """
        if X.ndim != 2 or X.shape[1] != self.given_width:
            side = f", {self.dim} features and {self.columns.width} of side columns" if self.columns else ""
            raise HeadError(
                f"features: got shape {X.shape}, expected (n, {self.given_width}){side}, as this head was fitted to"
            )
        found = np.empty((len(X), len(self.classes)))
        for part in spans(len(X), self.given_width):
            rows = as_floats(X[part], np.arange(part.start, part.stop))
            if self.projection:
                projected = self.projection.transform(rows[:, : self.dim])
                rows = np.concatenate([projected, rows[:, self.dim :]], axis=1)
            found[part] = logits(self.kind, self.estimator, rows, len(self.classes))
            release(X)
        return found

    def predict(self, X: NDArray[Any]) -> NDArray[np.int64]:
        """Return the (n,) index of the most probable class of (n, given_width) rows.

        Raises:
            HeadError: The features have another length, are not floats, or are not finite.
        """
        chosen: NDArray[np.int64] = self.predict_proba(X).argmax(axis=1)
        return chosen


def gives(kind: HeadKind, estimator: Any) -> str:
    """Return the type of the scores of a fitted estimator; see `HeadKind.scores`.

    Raises:
        HeadError: The estimator has neither probabilities nor margins.
    """
    if kind.scores != "auto":
        return kind.scores
    if hasattr(estimator, "predict_proba"):
        return "proba"
    if hasattr(estimator, "decision_function"):
        return "decision"
    raise HeadError(
        f"head {kind.name!r} predicts labels only, expected predict_proba or decision_function; choose another head"
    )


def logits(kind: HeadKind, estimator: Any, X: NDArray[Any], n_classes: int) -> NDArray[np.float64]:
    """Return (n, n_classes) scores or log probabilities of a fitted estimator; -inf for classes that it does not know."""
    try:
        own = _own_logits(kind, estimator, X)
    except FrostlineError:
        raise
    except Exception as error:  # an estimator of someone else raises anything for features it can't use
        problem = str(error) or type(error).__name__
        raise HeadError(f"head {kind.name!r} can't score these feature vectors: {problem}") from error
    expected = (len(X), len(estimator.classes_))
    if own.shape != expected:
        raise HeadError(f"head {kind.name!r} returned scores of shape {own.shape}, expected {expected}")
    if not np.isfinite(own).all():
        raise HeadError(
            f"head {kind.name!r} returned scores that are not finite numbers: a feature vector is too large for it, "
            "or its arrays are damaged; train it again with other parameters, or train another head"
        )
    found = np.full((len(X), n_classes), -np.inf)
    found[:, estimator.classes_] = own
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
    """Return the (n, k) softmax of logits divided by a temperature.

    Raises:
        HeadError: The quotients are too large for float64.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        proba: NDArray[np.float64] = softmax(found / temperature, axis=1)
    if np.isnan(proba).any():
        raise HeadError(
            f"the probabilities of the head are not finite numbers: its scores are too large for its temperature, {temperature:g};"
            " train it again"
        )
    return proba
