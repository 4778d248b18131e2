"""The predict stage: label new images with the backbone, transform, layer and head of a run."""

import csv
import dataclasses
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

import numpy as np
from numpy.typing import NDArray

from frostline.classifiers.fitting.fitted_head import FittedHead
from frostline.features.backbones import Backbone
from frostline.features.cache.file.encoding import decode, encode
from frostline.features.engines import Engine
from frostline.features.images.batches import Batch, load_batches
from frostline.features.images.decoders import decoder_of
from frostline.features.sources import PathSource, image_paths
from frostline.features.spec import Dtype
from frostline.features.table import ImageSource
from frostline.pipeline.errors import RunError
from frostline.pipeline.extraction.engine_choice import EngineOptions, engine_like
from frostline.pipeline.inputs.layers import joined_layers, layers_of
from frostline.pipeline.progress import SILENT, Reporter
from frostline.pipeline.runs.caches import provenance_of
from frostline.pipeline.runs.record import CacheRecord
from frostline.pipeline.runs.run import Run, load_run

_BATCH_SIZE = 32


@dataclass(frozen=True)
class Prediction:
    """Prediction for one image.

    Attributes:
        path: Path of the image.
        label: Most probable class; None if the image could not be read.
        probability: Probability of `label`; None if the image could not be read.
        top: Most probable classes with their probabilities, best first.
        error: Reason why the image could not be read; None if it could.
    """

    path: Path
    label: str | None
    probability: float | None
    top: Sequence[tuple[str, float]]
    error: str | None = None


def predict(
    run: str | Path,
    paths: Sequence[str | Path],
    *,
    top_k: int = 5,
    weights: str | Path | Sequence[str | Path] | None = None,
    engine: str = "auto",
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto",
    device: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    trusted: Collection[str] = (),
    report: Reporter = SILENT,
) -> list[Prediction]:
    """Classify images with the backbone, transform, layer and head of a run.

    Args:
        run: Run directory.
        paths: Images, and folders to search for images.
        top_k: Number of classes to report per image.
        weights: Weights of the backbone, if the file was moved; one path per backbone for a run on several.
        engine: Engine that executes the forward pass; ``auto`` is the engine that computed the features the head
            was trained on or, if that is not available here, the fastest one within the numerical contract.
        precision: Number format of the forward pass; ``auto`` chooses it together with the engine.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        batch_size: Images per forward pass; by default chosen for the device.
        workers: Decoding threads; by default one per core.
        trusted: Types to trust when loading a third-party head; see `classifiers.saving.head_files.load_head`.
        report: Receiver of progress.

    Returns:
        One prediction per image, in the order of `paths`. An unreadable image has an error instead of a label.

    Raises:
        RunError: The run is not readable, or the weights of the backbone differ from those it was trained with.
        FeaturesError: An image path does not exist, or the backbone can't be built here.
        EngineError: The run's engine and precision are not available here, and no check shows that others agree
            with them.
    """
    opened = load_run(run)
    head = opened.head(trusted=trusted)
    given = _weights_per_backbone(opened, weights)
    layers = joined_layers(opened.layer)
    source: ImageSource = PathSource(image_paths(paths))
    count = len(source.table.ids)
    size = batch_size or min(count, _BATCH_SIZE)
    used = sorted({index for index, _ in layers})
    options = EngineOptions(engine, precision, device, size)
    streams = [
        _features(
            source,
            opened.caches[index],
            opened.backbone(opened.caches[index], given[index]),
            layers_of(opened.layer, index),
            options,
            workers=workers,
            report=report,
        )
        for index in used
    ]
    predictions: list[Prediction] = []
    with report.task("Predicting", count) as advance:
        for each in zip(*streams, strict=True):  # batch by batch, side by side
            outputs = {index: found for index, (_, found) in zip(used, each, strict=True)}
            features = np.concatenate([outputs[index][key] for index, key in layers], axis=1)
            batch = each[0][0]
            predictions += _label(batch, features, source, head, top_k)
            advance(len(batch.rows))
    return predictions


def _weights_per_backbone(
    run: Run, weights: str | Path | Sequence[str | Path] | None
) -> Sequence[str | Path | None]:
    """Return the weights for each backbone; None for its own."""
    given = [weights] if isinstance(weights, str | Path) else list(weights or ())
    if given and len(given) != len(run.caches):
        raise RunError(
            f"{run.path} was trained on {len(run.caches)} backbones, and --weights names {len(given)} files; pass one"
            f" per backbone, in this order: {', '.join(each.spec.backbone for each in run.caches)}."
        )
    return given or [None] * len(run.caches)


def _features(
    source: ImageSource,
    trained: CacheRecord,
    net: Backbone,
    keys: Sequence[str],
    options: EngineOptions,
    *,
    workers: int | None,
    report: Reporter,
) -> Iterator[tuple[Batch, dict[str, NDArray[Any]]]]:
    """Build the engine of one backbone; return an iterator over batches and their (k, dim) features by layer."""
    spec = trained.spec
    options = dataclasses.replace(options, decoder=decoder_of(spec.decoder))
    by_key = {layer.key: layer for layer in spec.layers}
    layers = tuple(by_key[key] for key in keys)
    engine = engine_like(provenance_of(trained), net, layers, source, options, workers=workers, report=report)
    batches = load_batches(
        source,
        np.arange(len(source.table.ids)),
        net.transform,
        batch_size=engine.batch_size,
        workers=workers,
        block_rows=engine.batch_size,
        decoder=options.decoder,
    )
    return _rounded(engine, batches, spec.dtype)


def _rounded(
    engine: Engine, batches: Iterator[Batch], dtype: Dtype
) -> Iterator[tuple[Batch, dict[str, NDArray[Any]]]]:
    """Yield the features of the unaugmented images, rounded to the number format of the training cache."""
    for batch, outputs in engine.run(batches):
        yield (
            batch,
            {key: decode(encode(found[:, 0], dtype), dtype) for key, found in outputs.items()},
        )


def _label(
    batch: Batch, features: NDArray[np.float32], source: ImageSource, head: FittedHead, top_k: int
) -> Iterator[Prediction]:
    readable = batch.status == 1
    probabilities = np.zeros((len(batch.rows), len(head.classes)))
    if readable.any():
        probabilities[readable] = head.predict_proba(features[readable])
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
    for position, row in enumerate(batch.rows):
        path = Path(source.display_name(int(row)))
        if not readable[position]:
            yield Prediction(path, None, None, (), batch.errors[position])
            continue
        top = [(head.classes[k], float(probabilities[position, k])) for k in order[position]]
        yield Prediction(path, top[0][0], top[0][1], top)


def write_csv(predictions: Sequence[Prediction], file: TextIO) -> None:
    """Write one CSV line per image: path, label, probability, the top classes and the error."""
    depth = max((len(prediction.top) for prediction in predictions), default=0)
    top = [f"{name}_{rank}" for rank in range(1, depth + 1) for name in ("label", "probability")]
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["path", "label", "probability", *top, "error"])
    for prediction in predictions:
        cells = [cell for name, probability in prediction.top for cell in (name, f"{probability:.6f}")]
        cells += [""] * (2 * depth - len(cells))
        probability = "" if prediction.probability is None else f"{prediction.probability:.6f}"
        writer.writerow(
            [prediction.path, prediction.label or "", probability, *cells, prediction.error or ""]
        )
