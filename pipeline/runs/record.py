"""The record of a run, ``run.json``: how it was trained, on what, and what came out.

There is one struct per kind of run. Writers build it and readers get it, so that both have one definition. A record of an
earlier format version is upgraded when it is read. Fields of the same version that this Frostline doesn't know are passed
over: a release may record more without a new version, and whatever changes the meaning of a field gets a new one.
"""

import json
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from msgspec import Meta, Struct

from frostline.classifiers.fitting.search import SearchPlan
from frostline.features.fidelity import Check
from frostline.features.spec import FeatureSpec
from frostline.pipeline.errors import RunError
from frostline.pipeline.inputs.layers import layer_places
from frostline.pipeline.runs.directory import Document, to_plain

RUN_FORMAT = "frostline-run"
RUN_VERSION = 2
RUN_FILE = "run.json"

Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**53)]
Share: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Amount: TypeAlias = Annotated[float, Meta(ge=0)]
Fractions: TypeAlias = tuple[Amount, Amount, Amount]
Scalar: TypeAlias = bool | int | float | str | None


class CacheRecord(Struct, frozen=True, kw_only=True):
    """What a run remembers of a cache that it was trained on.

    Attributes:
        path: Where the cache lay, absolute; that of a fine-tuned run is relative to the run.
        key: Cache key, the digest of `spec`.
        spec: Specification of its features.
        check: How far they were from those of eager fp32; None where they were not compared.
        source: The folder or manifest that its images came from.
        weights: What the user gave as the backbone's weights; None for its own.
        rows: Images in the cache.
    """

    path: str
    key: str
    spec: FeatureSpec
    check: Check | None = None
    source: str
    weights: str | None
    rows: Count

    def __post_init__(self) -> None:
        if self.spec.digest != self.key:
            raise ValueError(
                f"expected a specification whose digest equals the key; its digest is {self.spec.digest}"
            )


class Asked(Struct, frozen=True, kw_only=True):
    """What the user asked `train_head` for.

    Attributes:
        head: Kind of head.
        params: Hyper-parameters that were fixed.
        layer: Layer, several, or ``all``; None where none was named.
        project: Projection of the features; None for none.
        search: How to search for hyper-parameters; None for the head's own way.
        cv: Folds to judge candidates on; None for the validation rows.
        seed: Seed of everything random in the head.
        device: Where torch heads train.
        memory: Bytes that the features may take; None for half of the machine's memory.
        fractions: Shares of train, val and test for data that comes without splits.
    """

    head: str
    params: Mapping[str, Any]
    layer: str | None
    project: str | None
    search: SearchPlan | None
    cv: Count | None
    seed: int
    device: str
    memory: Count | None = None
    fractions: Fractions


class Counts(Struct, frozen=True, kw_only=True):
    """Labelled, readable rows in each split."""

    train: Count
    val: Count
    test: Count


class SplitRecord(Struct, frozen=True, kw_only=True):
    """How the rows were divided.

    Attributes:
        fractions: Shares of train, val and test for data that comes without splits.
        counts: Rows in each split.
        problems: What a user should know of the splits, one sentence each.
    """

    fractions: Fractions
    counts: Counts
    problems: tuple[str, ...]


class HeadRecord(Struct, frozen=True, kw_only=True):
    """The head of a run.

    Attributes:
        kind: Kind of head, as the user named it.
        params: All of its parameters, the chosen ones included.
        types: Types in it that whoever loads it has to trust.
        width: Length of the vector that it reads; None in a run of version 1.
    """

    kind: str
    params: Mapping[str, Any]
    types: tuple[str, ...]
    width: Count | None = None


class Scores(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Scores of the selected head on the validation rows, before any refit; all None without such rows.

    Attributes:
        accuracy: Share of the rows that it gets right.
        log_loss: Mean negative log probability of the true class.
        rms_calibration_error: Root mean square calibration error.
        uncalibrated_log_loss: The log loss before the head's temperature.
        uncalibrated_rms_calibration_error: The calibration error before it.
    """

    accuracy: Share | None = None
    log_loss: float | None = None
    rms_calibration_error: float | None = None
    uncalibrated_log_loss: float | None = None
    uncalibrated_rms_calibration_error: float | None = None


class Metrics(Struct, frozen=True, kw_only=True):
    """How good the run is, before anyone looks at test rows."""

    validation: Scores


class Durations(Struct, frozen=True, kw_only=True):
    """Wall time of the training.

    Attributes:
        fit: Of search and fit, or of all epochs.
        total: Of the whole stage.
    """

    fit: Amount
    total: Amount


class TuningRecord(Struct, frozen=True, kw_only=True):
    """How a backbone was fine-tuned.

    Attributes:
        recipe: Every number of the training, by name; see `pipeline.tuning.recipe.Recipe`.
        backbone: The network that it started from, as the user named it.
        weights: Local weights that it started from; None for its own.
        weights_sha256: Digest of the weights that it started from.
        image_size: Side in pixels of its square input; None for that of its weights.
        limit: How many images were asked for; None for all.
        from_scratch: Whether it started untrained.
        from_run: The run whose head it started from; None for a fresh head.
        cache: Cache of the activations below the frost line; None where it was trained on images.
        trained: Parameters that learnt.
        frozen: Parameters that never did.
        frozen_sha256: Digest of the frozen ones.
        best: Number of the epoch whose weights were kept.
    """

    recipe: Mapping[str, Scalar]
    backbone: str
    weights: str | None
    weights_sha256: str
    image_size: Count | None
    limit: Count | None
    from_scratch: bool
    from_run: str | None
    cache: str | None
    trained: Count
    frozen: Count
    frozen_sha256: str
    best: Count


class _Record(Struct, frozen=True, kw_only=True, tag_field="kind"):
    created: str
    caches: Annotated[tuple[CacheRecord, ...], Meta(min_length=1)]
    layer: str
    classes: Annotated[tuple[str, ...], Meta(min_length=1)]
    split: SplitRecord
    head: HeadRecord
    seed: int
    trials: tuple[Mapping[str, Any], ...]
    metrics: Metrics
    seconds: Durations
    versions: Mapping[str, str]

    def __post_init__(self) -> None:
        if not _hold(self.caches, self.layer):
            raise ValueError(f"expected a layer of the run's caches, layer is {self.layer!r}")


def _hold(caches: Sequence[CacheRecord], layer: str) -> bool:
    """Return whether each part of a layer is in the cache that it names."""
    try:
        places = layer_places(layer)
    except ValueError:  # the cache is named by something else than a number
        return False
    return all(
        0 <= index < len(caches) and key in {stored.key for stored in caches[index].spec.layers}
        for index, key in places
    )


class HeadRun(_Record, frozen=True, kw_only=True, tag="head"):
    """A run of `train_head`: a head on cached features.

    Attributes:
        created: When it was written, UTC, as ISO 8601.
        caches: What it was trained on, in the order in which their features stand side by side.
        layer: Key of the layer that the head reads; several side by side are joined by ``+``, ``2/`` before one of the
            second cache.
        classes: Names of the classes.
        split: How the rows were divided.
        head: The head.
        seed: Seed of what is random.
        trials: Hyper-parameters that were tried, with their validation scores.
        metrics: How good it is.
        seconds: Wall time.
        versions: Versions of the libraries.
        asked: What the user asked for; None in a run of version 1.
    """

    asked: Asked | None = None


class TunedRun(_Record, frozen=True, kw_only=True, tag="finetune"):
    """A run of `finetune`: a backbone and a linear head on it, trained together.

    Attributes:
        created: When it was written, UTC, as ISO 8601.
        caches: The one cache, within the run, of the features that its own backbone gives; it need not be there yet.
        layer: Key of the layer that the head reads.
        classes: Names of the classes.
        split: How the images were divided.
        head: The head.
        seed: Seed of what is random.
        trials: None.
        metrics: How good it is.
        seconds: Wall time.
        versions: Versions of the libraries.
        finetune: How the backbone was trained.
    """

    finetune: TuningRecord

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.caches) != 1:
            raise ValueError(f"expected one cache in a fine-tuned run, there are {len(self.caches)}")


RunRecord: TypeAlias = HeadRun | TunedRun


def save_record(folder: Path, record: RunRecord) -> None:
    """Write ``run.json`` into a folder."""
    document = {"format": RUN_FORMAT, "format_version": RUN_VERSION, **to_plain(record)}
    (folder / RUN_FILE).write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_record(folder: Path) -> RunRecord:
    """Read ``run.json`` of this format version or of an earlier one.

    Raises:
        RunError: There is none, or it is malformed or of a later version.
    """
    file = folder / RUN_FILE
    try:
        text = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(
            f"{folder} is not a run directory: it holds no {RUN_FILE}. Create one with: frostline train-head CACHE"
        ) from None
    except OSError as error:
        raise RunError(f"{file} can't be read: {error}") from error
    described = Document(file, "the record of a run", "Restore the file from a copy, or train again.")
    document = described.parse(text)
    if document.get("format") != RUN_FORMAT:
        raise described.error(f"format: expected {RUN_FORMAT!r}, got {reprlib.repr(document.get('format'))}")
    upgraded = _upgrade(document, _version(document, described))
    record: RunRecord = described.convert(upgraded, RunRecord)  # type: ignore[arg-type]  # a union is no type
    return record


def _version(document: Mapping[str, Any], described: Document) -> int:
    version = document.get("format_version")
    if type(version) is not int or version < 1:  # True is an int, too
        raise described.error(f"format_version: expected 1 to {RUN_VERSION}, got {reprlib.repr(version)}")
    if version > RUN_VERSION:
        raise RunError(
            f"{described.where} has format version {reprlib.repr(version)}; this Frostline reads 1 to {RUN_VERSION}."
            " Update Frostline, or use the one that wrote it."
        )
    return version


def _upgrade(document: dict[str, Any], version: int) -> dict[str, Any]:
    """Bring a document of an earlier version to the form of the current one."""
    if version == 1:  # one cache only, and no record of what was asked for
        document = {**document, "caches": [document.get("cache")]}
    return {"kind": "head", **document}  # the first runs of version 2 had one kind and didn't name it
