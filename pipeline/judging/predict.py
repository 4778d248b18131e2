"""The predict stage: label new images with the backbone, transform, layer and head of a run, or vectors with its head."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from frostline.features.sources.files import PathSource
from frostline.features.table import OK, ImageSource
from frostline.pipeline.errors import RunError
from frostline.pipeline.extraction.new_images import new_computation, new_features
from frostline.pipeline.inputs.layers import joined_layers, layers_of
from frostline.pipeline.inputs.sources import named_images
from frostline.pipeline.inputs.unreadable import report_remarks
from frostline.pipeline.judging.predict_vectors import predict_cache, predict_features
from frostline.pipeline.judging.prediction import Labeller, Prediction
from frostline.pipeline.judging.rejection import RejectionRule
from frostline.pipeline.options.judging import PredictOptions
from frostline.pipeline.options.stage import stage
from frostline.pipeline.runs.backbone import refuse_imported
from frostline.pipeline.runs.caches import provenance_of
from frostline.pipeline.runs.run import Run, load_run


@stage(PredictOptions)
def predict(run: str | Path, options: PredictOptions) -> list[Prediction]:
    """Classify images with the backbone, transform, layer and head of a run; or vectors, with its head alone.

    Args:
        run: Run directory.
        options: Options of the stage.

    Returns:
        One prediction per image, in the order of `images`, or per row of the cache or of the features. An unreadable image,
        and a row without features, has an error instead of a label.

    Raises:
        OptionError: None or several of `images`, `cache` and `features` are given, or the features have another shape.
        RunError: The run is not readable, the weights of the backbone differ from those it was trained with, the features
            of the cache are not those that it was trained on, or the run records no distances to reject by.
        FeaturesError: An image path does not exist, or the backbone can't be built here.
        EngineError: The run's engine and precision are not available here, and no check shows that others agree
            with them.
    """
    opened = load_run(run)
    head = opened.head(trusted=options.trusted)
    rule = None if options.reject is None else RejectionRule.of(opened, options.reject)
    labeller = Labeller(head, options.top_k, rule)
    if options.cache is not None:
        predictions = predict_cache(opened, options.cache, labeller, options.report)
    elif options.features is not None:
        predictions = predict_features(opened, options.features, labeller, options.report)
    else:
        predictions = _predict_images(opened, labeller, options)
    if rule:
        rule.tell(predictions, options.report)
    return predictions


def _predict_images(opened: Run, labeller: Labeller, options: PredictOptions) -> list[Prediction]:
    """Classify images with the backbones of a run."""
    head = labeller.head
    for trained in opened.caches:
        refuse_imported(opened.path, trained)
    given = _weights_per_backbone(opened, options.weights)
    layers = joined_layers(opened.layer)
    source = named_images(cast("Any", options.images), options)
    count = len(source.table)
    if not count:
        return []
    side = {column.name: column.cells for column in source.table.columns}
    if head.columns:
        head.columns.check(side, _place(source))
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
            rows = [(os.fsdecode(source.table.ids[row]), source.path(int(row))) for row in batch.rows]
            errors = [
                "" if status == OK else error or "the image could not be read"
                for status, error in zip(batch.status.tolist(), batch.errors, strict=True)
            ]
            remarks |= {os.fsdecode(source.table.ids[row]): text for row, text in batch.remarks.items()}
            predictions += labeller.label(rows, errors, features)
            advance(len(batch.rows))
    report_remarks(remarks, options.report)
    return predictions


def _place(source: ImageSource) -> str:
    """Return the name of a source for messages: that of its first image if they were named one by one."""
    if not isinstance(source, PathSource):
        return source.root
    more = f" and {len(source.paths) - 1} more" if len(source.paths) > 1 else ""
    return f"{source.paths[0]}{more}"


def _weights_per_backbone(run: Run, given: Sequence[str | Path]) -> Sequence[str | Path | None]:
    """Return the weights for each backbone; None for its own."""
    if given and len(given) != len(run.caches):
        raise RunError(
            f"{run.path} was trained on {len(run.caches)} backbones, and --weights names {len(given)} files; pass one"
            f" per backbone, in this order: {', '.join(each.spec.backbone for each in run.caches)}."
        )
    return given or [None] * len(run.caches)
