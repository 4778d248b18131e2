"""Predictions for images or vectors, and their table."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.fitting.fitted_head import FittedHead
from frostline.pipeline.judging.rejection import RejectionRule


@dataclass(frozen=True)
class Prediction:
    """Prediction for one image.

    Attributes:
        image: Id of the image in its source. That of an image that the user named by a path is this path.
        path: Path of the image's file; None for an image of a source without files.
        label: Most probable class; None if the image could not be read, or is rejected.
        probability: Probability of `label`; None without a label.
        top: Most probable classes with their probabilities, best first.
        error: Reason why the image could not be read; None if it could.
        rejected: Whether the image is like none of the known classes; None if that was not asked.
        distance: Distance from the nearest training image; see `frostline.classifiers.fitting.rejection.Rejection`. None if
            rejection was not asked.
    """

    image: str
    path: Path | None
    label: str | None
    probability: float | None
    top: Sequence[tuple[str, float]]
    error: str | None = None
    rejected: bool | None = None
    distance: float | None = None

    def judged(self, distance: float, threshold: float) -> "Prediction":
        """Return the prediction with its distance, and without a label if that is above a threshold."""
        rejected = distance > threshold
        label, probability = (None, None) if rejected else (self.label, self.probability)
        return replace(self, label=label, probability=probability, rejected=rejected, distance=distance)


@dataclass(frozen=True)
class Labeller:
    """What gives rows of features their predictions.

    Attributes:
        head: The head.
        top_k: Number of classes to list.
        rule: Rule by which rows are rejected; None to reject none.
    """

    head: FittedHead
    top_k: int
    rule: RejectionRule | None = None

    def label(
        self, rows: Sequence[tuple[str, Path | None]], errors: Sequence[str], features: NDArray[np.float32]
    ) -> list[Prediction]:
        """Return the prediction for each of k rows.

        Args:
            rows: Id and path of each row; see `Prediction`.
            errors: Reason why a row has no features, empty if it has.
            features: (k, d) features; those of rows with a reason are not read.
        """
        readable = np.array([not error for error in errors], bool)
        probabilities = np.zeros((len(rows), len(self.head.classes)))
        distances: NDArray[np.float64] | None = None
        if readable.any():
            probabilities[readable] = self.head.predict_proba(features[readable])
        if self.rule:
            distances = self.rule.distances(features, readable)
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, : self.top_k]
        found = []
        for position, (image, path) in enumerate(rows):
            if not readable[position]:
                found.append(Prediction(image, path, None, None, (), errors[position]))
                continue
            top = [(self.head.classes[k], float(probabilities[position, k])) for k in order[position]]
            prediction = Prediction(image, path, top[0][0], top[0][1], top)
            if self.rule and distances is not None:
                prediction = prediction.judged(float(distances[position]), self.rule.threshold)
            found.append(prediction)
        return found


def as_csv(predictions: Sequence[Prediction]) -> tuple[list[str], list[list[str]]]:
    """Return the names of the columns and one row per image: path, label, probability, the top classes, the error.

    The first column is ``image``, with the ids, instead of ``path`` if an image is not a file of its own. If rejection was
    asked for, ``rejected`` (1 or 0) and ``distance`` come before the error.
    """
    named = "image" if any(prediction.path is None for prediction in predictions) else "path"
    depth = max((len(prediction.top) for prediction in predictions), default=0)
    top = [f"{name}_{rank}" for rank in range(1, depth + 1) for name in ("label", "probability")]
    asked = any(prediction.rejected is not None for prediction in predictions)
    rows = []
    for prediction in predictions:
        cells = [cell for name, probability in prediction.top for cell in (name, f"{probability:.6f}")]
        cells += [""] * (2 * depth - len(cells))
        probability = "" if prediction.probability is None else f"{prediction.probability:.6f}"
        rows.append(
            [
                str(getattr(prediction, named)),
                prediction.label or "",
                probability,
                *cells,
                *(_rejection_cells(prediction) if asked else []),
                prediction.error or "",
            ]
        )
    return [named, "label", "probability", *top, *(["rejected", "distance"] if asked else []), "error"], rows


def _rejection_cells(prediction: Prediction) -> list[str]:
    if prediction.rejected is None or prediction.distance is None:
        return ["", ""]
    return [str(int(prediction.rejected)), f"{prediction.distance:.6g}"]
