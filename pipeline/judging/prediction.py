"""Predictions for images or vectors, and their table."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.fitting.fitted_head import FittedHead


@dataclass(frozen=True)
class Prediction:
    """Prediction for one image.

    Attributes:
        image: Id of the image in its source. That of an image that the user named by a path is this path.
        path: Path of the image's file; None for an image of a source without files.
        label: Most probable class; None if the image could not be read.
        probability: Probability of `label`; None if the image could not be read.
        top: Most probable classes with their probabilities, best first.
        error: Reason why the image could not be read; None if it could.
    """

    image: str
    path: Path | None
    label: str | None
    probability: float | None
    top: Sequence[tuple[str, float]]
    error: str | None = None


def labelled(
    rows: Sequence[tuple[str, Path | None]],
    errors: Sequence[str],
    features: NDArray[np.float32],
    head: FittedHead,
    top_k: int,
) -> Iterator[Prediction]:
    """Yield the prediction for each row.

    Args:
        rows: Id and path of each row; see `Prediction`.
        errors: Reason why a row has no features, empty if it has.
        features: (k, d) features; those of rows with a reason are not read.
        head: The head.
        top_k: Number of classes to list.
    """
    readable = np.array([not error for error in errors], bool)
    probabilities = np.zeros((len(rows), len(head.classes)))
    if readable.any():
        probabilities[readable] = head.predict_proba(features[readable])
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
    for position, (image, path) in enumerate(rows):
        if not readable[position]:
            yield Prediction(image, path, None, None, (), errors[position])
            continue
        top = [(head.classes[k], float(probabilities[position, k])) for k in order[position]]
        yield Prediction(image, path, top[0][0], top[0][1], top)


def as_csv(predictions: Sequence[Prediction]) -> tuple[list[str], list[list[str]]]:
    """Return the names of the columns and one row per image: path, label, probability, the top classes, the error.

    The first column is ``image``, with the ids, instead of ``path`` if an image is not a file of its own.
    """
    named = "image" if any(prediction.path is None for prediction in predictions) else "path"
    depth = max((len(prediction.top) for prediction in predictions), default=0)
    top = [f"{name}_{rank}" for rank in range(1, depth + 1) for name in ("label", "probability")]
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
                prediction.error or "",
            ]
        )
    return [named, "label", "probability", *top, "error"], rows
