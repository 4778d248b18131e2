"""A run in a few numbers: how good it is, and what it cost. What a run lacks is None."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from frostline.classifiers.protocol.intervals import share
from frostline.features.backbones import BackboneInfo, describe
from frostline.features.cache import FeatureCache
from frostline.features.cache.contract import Computed
from frostline.features.errors import FeaturesError
from frostline.pipeline.errors import RunError
from frostline.pipeline.inputs.layers import layers_of
from frostline.pipeline.runs.directory import CacheRecord, Run
from frostline.pipeline.runs.predictions import TEST_FILE, VALIDATION_FILE, Judgements

Split = Literal["validation", "test"]

_FILES: Mapping[Split, str] = {"validation": VALIDATION_FILE, "test": TEST_FILE}


@dataclass(frozen=True)
class Accuracy:
    """A share of right predictions with its 95 % interval.

    Attributes:
        value: The share.
        low: Lower end.
        high: Upper end.
        rows: Images behind it.
    """

    value: float
    low: float
    high: float
    rows: int


@dataclass(frozen=True)
class Cost:
    """What a run takes to compute and to keep; None for what isn't known.

    Attributes:
        parameters: Of its backbones, their own classifiers included.
        gflops: 10^9 multiply-adds of an image through its backbones.
        width: Length of the vector that the head reads.
        extraction_seconds: Wall time of extracting every row of its caches, at the rate that was measured.
        images_per_second: That rate, of all backbones one after the other.
        machine: What that was measured on.
        joules: Energy that extracting an image took, of all backbones; the machine must count it.
        training_seconds: Wall time of the stage that trained it, with its search.
        cache_bytes: Size of its caches.
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
        """Extraction and training."""
        return _sum([self.extraction_seconds, self.training_seconds])


@dataclass(frozen=True)
class Summary:
    """A run in a few numbers.

    Attributes:
        run: The run, read.
        name: Name of its directory.
        kind: ``head``, on cached features, or ``finetune``.
        backbones: Their names, in the order in which their features stand side by side.
        layer: What the head reads.
        head: Kind of head.
        project: How features are projected first; none where they aren't.
        seed: Of what is random.
        validation: Accuracy on validation rows, with a Wilson interval (Wilson 1927).
        test: Accuracy on test rows, with the same; none where `evaluate` hasn't looked.
        cost: What it takes.
    """

    run: Run
    name: str
    kind: str
    backbones: tuple[str, ...]
    layer: str
    head: str
    project: str | None
    seed: int | None
    validation: Accuracy | None
    test: Accuracy | None
    cost: Cost

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(self.run.record["classes"])

    @property
    def computed(self) -> tuple[tuple[Computed, frozenset[str]], ...]:
        """How the features of each of its caches were computed, and the layers that the head reads of them."""
        return tuple(
            (each.computed, frozenset(layers_of(self.layer, index)))
            for index, each in enumerate(self.run.caches)
        )

    def accuracy(self, split: Split) -> Accuracy | None:
        """Accuracy on one of the splits."""
        return self.validation if split == "validation" else self.test

    def judgements(self, split: Split) -> Judgements | None:
        """What the head said of each row of a split; none where that wasn't recorded."""
        return self._judgements[split] if self.accuracy(split) else None

    @cached_property
    def _judgements(self) -> dict[Split, Judgements | None]:
        return {split: Judgements.read(self.run.path / file) for split, file in _FILES.items()}


def summarise(path: str | Path) -> Summary:
    """Read a run in short; nothing is evaluated.

    Raises:
        RunError: There is no run at `path`.
    """
    run = Run.open(path)
    record = run.record
    asked = record.get("asked", {})
    return Summary(
        run=run,
        name=run.path.resolve().name,
        kind="finetune" if run.tuned else "head",
        backbones=_backbones(run),
        layer=run.layer,
        head=record["head"]["kind"],
        project=asked.get("project"),
        seed=record.get("seed"),
        validation=_validation(record),
        test=_test(run.path / "evaluation.json"),
        cost=_cost(run),
    )


def _backbones(run: Run) -> tuple[str, ...]:
    if run.tuned:
        return (run.record["finetune"]["backbone"],)
    return tuple(each.spec.backbone for each in run.caches)


def _validation(record: Mapping[str, Any]) -> Accuracy | None:
    value, rows = record["metrics"]["validation"].get("accuracy"), record["split"]["counts"].get("val", 0)
    if value is None or not rows:
        return None
    interval = share(round(value * rows), rows)
    return Accuracy(value, interval.low, interval.high, rows)


def _test(path: Path) -> Accuracy | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        top1 = document["metrics"]["top1"]
        return Accuracy(top1["value"], top1["low"], top1["high"], document["rows"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} can't be read: {error!r}. Run evaluate again.") from error


def _cost(run: Run) -> Cost:
    record = run.record
    caches = [] if run.tuned else [_open(each) for each in run.caches]
    timings = [cache.timing if cache else None for cache in caches]
    backbones = [_describe(name, run, place) for place, name in enumerate(_backbones(run))]
    seconds = [
        timing.seconds / timing.images * cache.rows if cache and timing else None
        for cache, timing in zip(caches, timings, strict=True)
    ]
    each_image = [1 / timing.images_per_second if timing else None for timing in timings]
    whole = _sum(each_image)
    return Cost(
        parameters=_whole(_sum([info.parameters if info else None for info in backbones])),
        gflops=_sum([info.gflops if info else None for info in backbones]),
        width=record["head"].get("width"),
        extraction_seconds=0.0 if run.tuned else _sum(seconds),
        images_per_second=1 / whole if whole else None,
        machine=" + ".join(dict.fromkeys(timing.machine for timing in timings if timing)) or None,
        joules=_sum([timing.joules if timing else None for timing in timings]),
        training_seconds=record.get("seconds", {}).get("total"),
        cache_bytes=_whole(_sum([cache.info().bytes if cache else None for cache in caches])),
    )


def _open(trained: CacheRecord) -> FeatureCache | None:
    """A cache of a run, where it still is what the run was trained on."""
    with contextlib.suppress(OSError, FeaturesError):
        cache = FeatureCache.open(trained.path)
        return cache if cache.key == trained.spec.digest else None
    return None


def _describe(name: str, run: Run, place: int) -> BackboneInfo | None:
    """A backbone, for images of the size that it was given."""
    with contextlib.suppress(FeaturesError):
        return describe(name, run.caches[place].spec.transform.crop)
    return None


def _sum(parts: Sequence[float | None]) -> float | None:
    """None where one of them is not known, or there is none."""
    known = [part for part in parts if part is not None]
    return sum(known) if known and len(known) == len(parts) else None


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)
