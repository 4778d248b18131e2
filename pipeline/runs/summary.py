"""Summary of a run: accuracy and costs. Unknown values are None."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from frostline.classifiers.protocol.intervals import share
from frostline.features.backbones import describe
from frostline.features.cache.contract import Provenance
from frostline.features.errors import FeaturesError
from frostline.pipeline.inputs.layers import layers_of
from frostline.pipeline.runs.caches import open_unchanged, provenance_of
from frostline.pipeline.runs.evaluation import find_test_predictions, is_unfinished, read_evaluation
from frostline.pipeline.runs.predictions import VALIDATION_FILE, Predictions
from frostline.pipeline.runs.record import CacheRecord, HeadRun
from frostline.pipeline.runs.run import Run, load_run
from frostline.system.files import resolved

Split = Literal["validation", "test"]

_READERS: Mapping[Split, Callable[[Path], Predictions | None]] = {
    "validation": lambda folder: Predictions.read(folder / VALIDATION_FILE),
    "test": find_test_predictions,
}


@dataclass(frozen=True)
class Accuracy:
    """Accuracy with a 95 % interval.

    Attributes:
        value: Fraction of correct predictions.
        low: Lower bound of the interval.
        high: Upper bound of the interval.
        rows: Number of images.
    """

    value: float
    low: float
    high: float
    rows: int


@dataclass(frozen=True)
class Cost:
    """Costs of a run; unknown values are None.

    Attributes:
        parameters: Number of parameters of the backbones, including their own classifiers.
        gflops: 10^9 multiply-adds per image, summed over the backbones.
        width: Number of features that the head reads.
        extraction_seconds: Wall time of extracting all rows of the caches at the measured rate.
        images_per_second: Measured extraction rate of all backbones, one after the other.
        machine: Machine on which the rate was measured.
        joules: Energy per extracted image in joules, summed over the backbones; known only if the machine reports
            it.
        training_seconds: Wall time of the training stage, including the search.
        cache_bytes: Size of the caches in bytes.
    """

    parameters: int | None
    gflops: float | None
    width: int | None
    extraction_seconds: float | None
    images_per_second: float | None
    machine: str | None
    joules: float | None
    training_seconds: float | None
    cache_bytes: int | None

    @property
    def total_seconds(self) -> float | None:
        """Wall time of extraction and training in seconds."""
        return _sum([self.extraction_seconds, self.training_seconds])


@dataclass(frozen=True)
class Summary:
    """Summary of a run.

    Attributes:
        run: The run.
        name: Name of the run directory.
        kind: ``head`` for a head on cached features, or ``finetune``.
        backbones: Names of the backbones, in the order in which their features are concatenated.
        layer: Key of the layer that the head reads.
        head: Kind of head.
        project: Projection of the features; None without one.
        columns: Side columns that the head reads beside the features.
        seed: Random seed.
        validation: Accuracy on validation rows, with a Wilson interval (Wilson 1927).
        test: Accuracy on test rows, with a Wilson interval; None if the run was not evaluated.
        interrupted: Whether the latest evaluation was interrupted, so that its result is unknown.
        cost: Costs of the run.
    """

    run: Run
    name: str
    kind: str
    backbones: tuple[str, ...]
    layer: str
    head: str
    project: str | None
    columns: tuple[str, ...]
    seed: int
    validation: Accuracy | None
    test: Accuracy | None
    interrupted: bool
    cost: Cost

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.run.record.classes

    @property
    def provenances(self) -> tuple[tuple[Provenance, frozenset[str]], ...]:
        """Computation of the features of each cache, and the layers of it that the head reads."""
        return tuple(
            (provenance_of(each), frozenset(layers_of(self.layer, index)))
            for index, each in enumerate(self.run.caches)
        )

    def accuracy(self, split: Split) -> Accuracy | None:
        """Return the accuracy on one of the splits."""
        return self.validation if split == "validation" else self.test

    def predictions(self, split: Split) -> Predictions | None:
        """Return the predictions for a split; None if they were not recorded."""
        return self._predictions.get(split)

    def read_predictions(self) -> None:
        """Read the predictions that were recorded, so that later reading can't fail.

        Raises:
            RunError: A file is damaged.
        """
        _ = self._predictions

    @cached_property
    def _predictions(self) -> dict[Split, Predictions | None]:
        return {split: read(self.run.path) for split, read in _READERS.items() if self.accuracy(split)}


def summarise(path: str | Path) -> Summary:
    """Summarise a run without evaluating anything.

    Raises:
        RunError: `path` is not a run.
    """
    run = load_run(path)
    record = run.record
    options = record.train_options() if isinstance(record, HeadRun) else None
    return Summary(
        run=run,
        name=resolved(run.path).name,
        kind="finetune" if run.tuned else "head",
        backbones=_backbones(run),
        layer=run.layer,
        head=record.head.kind,
        project=options.project if options else None,
        columns=tuple(options.with_columns) if options else (),
        seed=record.seed,
        validation=_validation(run),
        test=_test(run),
        interrupted=is_unfinished(run.path),
        cost=_cost(run),
    )


def _backbones(run: Run) -> tuple[str, ...]:
    if run.tuning:
        return (run.tuning.backbone,)
    return tuple(each.spec.backbone for each in run.caches)


def _validation(run: Run) -> Accuracy | None:
    value, rows = run.record.metrics.validation.accuracy, run.record.split.counts.val
    if value is None or not rows:
        return None
    interval = share(round(value * rows), rows)
    return Accuracy(value, interval.low, interval.high, rows)


def _test(run: Run) -> Accuracy | None:
    found = read_evaluation(run.path)
    if found is None:
        return None
    top1 = found.metrics.top1
    return Accuracy(top1.value, top1.low, top1.high, found.rows)


def _cost(run: Run) -> Cost:
    network, extraction = _network(run), _extraction(run)
    return Cost(
        parameters=network.parameters,
        gflops=network.gflops,
        width=run.record.head.width,
        extraction_seconds=extraction.seconds,
        images_per_second=1 / extraction.image_seconds if extraction.image_seconds else None,
        machine=extraction.machine,
        joules=extraction.joules,
        training_seconds=run.record.seconds.total,
        cache_bytes=extraction.bytes,
    )


@dataclass(frozen=True)
class _Network:
    """Costs of the backbones; None if one can't be built here."""

    parameters: int | None = None
    gflops: float | None = None


def _network(run: Run) -> _Network:
    """Return the costs of all backbones of a run."""
    parts = [_backbone(name, cache) for name, cache in zip(_backbones(run), run.caches, strict=True)]
    return _Network(_whole([each.parameters for each in parts]), _sum([each.gflops for each in parts]))


def _backbone(name: str, trained: CacheRecord) -> _Network:
    """Return the costs of one backbone at the input size of the cache."""
    if trained.spec.is_imported:
        return _Network()
    with contextlib.suppress(FeaturesError):
        info = describe(name, trained.spec.transform.crop)
        return _Network(info.parameters, info.gflops)
    return _Network()


@dataclass(frozen=True)
class _Extraction:
    """Costs of the caches; None if one is missing, or its extraction was not timed."""

    bytes: int | None = None
    seconds: float | None = None
    image_seconds: float | None = None
    joules: float | None = None
    machine: str | None = None


def _extraction(run: Run) -> _Extraction:
    """Return the costs of all caches of a run; a fine-tuned run was trained on images and has none."""
    if run.tuned:
        return _Extraction(seconds=0.0)
    parts = [_cache(each) for each in run.caches]
    return _Extraction(
        bytes=_whole([each.bytes for each in parts]),
        seconds=_sum([each.seconds for each in parts]),
        image_seconds=_sum([each.image_seconds for each in parts]),
        joules=_sum([each.joules for each in parts]),
        machine=" + ".join(dict.fromkeys(each.machine for each in parts if each.machine)) or None,
    )


def _cache(trained: CacheRecord) -> _Extraction:
    """Return the costs of one cache."""
    cache = open_unchanged(trained)
    if cache is None:
        return _Extraction()
    size, timing = cache.info().bytes, cache.timing
    if timing is None:
        return _Extraction(size)
    return _Extraction(
        bytes=size,
        seconds=timing.seconds / timing.images * cache.rows,
        image_seconds=1 / timing.images_per_second,
        joules=timing.joules,
        machine=timing.machine,
    )


def _sum(parts: Sequence[float | None]) -> float | None:
    """Return the sum; None if a part is unknown or there are no parts."""
    known = [part for part in parts if part is not None]
    return sum(known) if known and len(known) == len(parts) else None


def _whole(parts: Sequence[int | None]) -> int | None:
    found = _sum(parts)
    return None if found is None else int(found)
