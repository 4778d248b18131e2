"""The predict stage: label new images with the backbone, transform, layer and head of a run."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.fitting.fitted_head import FittedHead
from frostline.features.images.batches import Batch
from frostline.features.table import ImageSource
from frostline.pipeline.errors import RunError
from frostline.pipeline.extraction.new_images import new_computation, new_features
from frostline.pipeline.inputs.layers import joined_layers, layers_of
from frostline.pipeline.inputs.sources import named_images
from frostline.pipeline.inputs.unreadable import report_remarks
from frostline.pipeline.options.judging import PredictOptions
from frostline.pipeline.options.stage import stage
from frostline.pipeline.runs.caches import provenance_of
from frostline.pipeline.runs.run import Run, load_run


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


@stage(PredictOptions)
def predict(run: str | Path, options: PredictOptions) -> list[Prediction]:
    """Classify images with the backbone, transform, layer and head of a run.

    Args:
        run: Run directory.
        options: Options of the stage.

    Returns:
        One prediction per image, in the order of `images`. An unreadable image has an error instead of a label.

    Raises:
        RunError: The run is not readable, or the weights of the backbone differ from those it was trained with.
        FeaturesError: An image path does not exist, or the backbone can't be built here.
        EngineError: The run's engine and precision are not available here, and no check shows that others agree
            with them.
    """
    opened = load_run(run)
    head = opened.head(trusted=options.trusted)
    given = _weights_per_backbone(opened, options.weights)
    layers = joined_layers(opened.layer)
    source = named_images(options.images, options)
    count = len(source.table)
    if not count:
        return []
    side = {column.name: column.cells for column in source.table.columns}
    if head.columns:
        head.columns.check(side, "the images")
    used = sorted({index for index, _ in layers})
    computation = new_computation(options, count)
    streams = [
        new_features(
            source,
            provenance_of(opened.caches[index]),
            opened.backbone(opened.caches[index], given[index]),
            layers_of(opened.layer, index),
            computation,
        )
        for index in used
    ]
    predictions: list[Prediction] = []
    remarks: dict[str, str] = {}
    with options.report.task("Predicting", count) as advance:
        for each in zip(*streams, strict=True):  # batch by batch, side by side
            outputs = {index: found for index, (_, found) in zip(used, each, strict=True)}
            batch = each[0][0]
            parts = [outputs[index][key] for index, key in layers]
            if head.columns:
                parts.append(head.columns.encode(side, batch.rows))
            features = np.concatenate(parts, axis=1)
            remarks |= {os.fsdecode(source.table.ids[row]): text for row, text in batch.remarks.items()}
            predictions += _label(batch, features, source, head, options.top_k)
            advance(len(batch.rows))
    report_remarks(remarks, options.report)
    return predictions


def _weights_per_backbone(run: Run, given: Sequence[str | Path]) -> Sequence[str | Path | None]:
    """Return the weights for each backbone; None for its own."""
    if given and len(given) != len(run.caches):
        raise RunError(
            f"{run.path} was trained on {len(run.caches)} backbones, and --weights names {len(given)} files; pass one"
            f" per backbone, in this order: {', '.join(each.spec.backbone for each in run.caches)}."
        )
    return given or [None] * len(run.caches)


def _label(
    batch: Batch, features: NDArray[np.float32], source: ImageSource, head: FittedHead, top_k: int
) -> Iterator[Prediction]:
    readable = batch.status == 1
    probabilities = np.zeros((len(batch.rows), len(head.classes)))
    if readable.any():
        probabilities[readable] = head.predict_proba(features[readable])
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
    for position, row in enumerate(batch.rows):
        image, path = os.fsdecode(source.table.ids[row]), source.path(int(row))
        if not readable[position]:
            yield Prediction(image, path, None, None, (), batch.errors[position])
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
