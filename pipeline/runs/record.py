"""The record of a run, ``run.json``: settings, data and results of its training.

Each kind of run has one struct, used for both writing and reading. A record of an earlier format version is
upgraded when it is read. Unknown fields of the same version are ignored: a release may add fields without a new
version, but a change of the meaning of a field requires one.
"""

import json
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath, PureWindowsPath
from typing import Annotated, Any, TypeAlias

from msgspec import Meta, Struct

from frostline.features.fidelity import EARLIER_CHECK_NAMES, Check
from frostline.features.spec import FeatureSpec
from frostline.files.checksums import read_listed
from frostline.files.documents import (
    MAX_BYTES,
    Document,
    Name,
    Sha256,
    clipped,
    to_plain,
    with_current_names_in,
)
from frostline.pipeline.errors import RunError
from frostline.pipeline.inputs.labelled_images import HASH_RULE, Rule
from frostline.pipeline.inputs.layers import joined_layers
from frostline.pipeline.options.learning.heads import TrainHeadOptions
from frostline.pipeline.options.learning.recipe import Recipe
from frostline.pipeline.options.sources import SourceOptions
from frostline.system.atomic import replace_file
from frostline.system.files import broken_link

RUN_FORMAT = "frostline-run"
RUN_VERSION = 4
RUN_FILE = "run.json"

_REMEDY = "Restore the file from a copy, or train again."

Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**53)]
Share: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Amount: TypeAlias = Annotated[float, Meta(ge=0)]
Fractions: TypeAlias = tuple[Amount, Amount, Amount]


class CacheRecord(Struct, frozen=True, kw_only=True):
    """Record of a cache that a run was trained on.

    Attributes:
        path: Absolute path of the cache; for a fine-tuned run, relative to the run.
        key: Cache key, the digest of `spec`.
        spec: Specification of the features.
        check: Deviation from eager fp32; None if the features were not compared.
        source: Image folder or manifest.
        reading: Options that said how to read it, as far as they were given.
        weights: Local weights of the backbone named by the user; None for its own.
        rows: Number of images in the cache.
    """

    path: Name
    key: Sha256
    spec: FeatureSpec
    check: Check | None = None
    source: Name
    reading: Mapping[str, Any] = {}
    weights: Name | None
    rows: Count

    def __post_init__(self) -> None:
        if self.spec.digest != self.key:
            raise ValueError(
                f"expected a specification whose digest equals the key; its digest is {self.spec.digest}"
            )
        try:
            SourceOptions.reading_of(self.reading)
        except ValueError as error:
            raise ValueError(f"expected options of the reading of images, {error}") from None


class Counts(Struct, frozen=True, kw_only=True):
    """Number of labelled, readable rows in each split."""

    train: Count
    val: Count
    test: Count


class SplitRecord(Struct, frozen=True, kw_only=True):
    """Record of the split.

    Attributes:
        fractions: Fractions of train, val and test for data without declared splits.
        counts: Number of rows in each split.
        problems: Warnings about the splits, one sentence each.
        rule: Version of the rule of division; see `frostline.pipeline.inputs.labelled_images.split_rows`. 1 in a run of
            version 3 or earlier.
    """

    fractions: Fractions
    counts: Counts
    problems: tuple[str, ...]
    rule: Rule = HASH_RULE


class HeadRecord(Struct, frozen=True, kw_only=True):
    """Record of the head.

    Attributes:
        kind: Kind of head, as the user named it.
        params: All parameters, including the selected ones.
        types: Types that have to be trusted to load the head.
        width: Number of features that the head reads; None in a run of version 1.
    """

    kind: Name
    params: Mapping[str, Any]
    types: tuple[str, ...]
    width: Count | None = None


class Scores(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Validation scores of the selected head, before any refit; all None without validation rows.

    Attributes:
        accuracy: Fraction of correct predictions.
        log_loss: Mean negative log probability of the true class.
        rms_calibration_error: Root mean square calibration error.
        uncalibrated_log_loss: Log loss before temperature scaling.
        uncalibrated_rms_calibration_error: Calibration error before temperature scaling.
    """

    accuracy: Share | None = None
    log_loss: float | None = None
    rms_calibration_error: float | None = None
    uncalibrated_log_loss: float | None = None
    uncalibrated_rms_calibration_error: float | None = None


class Metrics(Struct, frozen=True, kw_only=True):
    """Scores of the run without test rows."""

    validation: Scores


class Durations(Struct, frozen=True, kw_only=True):
    """Wall time of the training in seconds.

    Attributes:
        fit: Wall time of search and fit, or of all epochs.
        total: Wall time of the whole stage.
    """

    fit: Amount
    total: Amount


class TuningRecord(Struct, frozen=True, kw_only=True):
    """Record of the fine-tuning of a backbone.

    Attributes:
        recipe: Settings of the training; a setting that an earlier release did not have has its default.
        backbone: Initial network, as the user named it.
        weights: Initial local weights; None for the network's own.
        weights_sha256: Digest of the initial weights.
        image_size: Side in pixels of the square input; None for the size of the pretrained weights.
        limit: Requested number of images; None for all.
        from_scratch: Whether training started from random weights.
        from_run: Run whose head or network training started from; None for a new head.
        cache: Cache of the activations below the frost line; None if training used images.
        trained: Number of trained parameters.
        frozen: Number of parameters that stayed frozen.
        frozen_sha256: Digest of the frozen parameters.
        best_epoch: Number of the epoch whose weights were kept.
    """

    recipe: Recipe
    backbone: Name
    weights: Name | None
    weights_sha256: Sha256
    image_size: Count | None
    limit: Count | None
    from_scratch: bool
    from_run: Name | None
    cache: Name | None
    trained: Count
    frozen: Count
    frozen_sha256: Sha256
    best_epoch: Count


class _Record(Struct, frozen=True, kw_only=True, tag_field="kind"):
    created: str
    caches: Annotated[tuple[CacheRecord, ...], Meta(min_length=1)]
    layer: str
    classes: Annotated[tuple[str, ...], Meta(min_length=1)]
    split: SplitRecord
    head: HeadRecord
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
    trials: tuple[Mapping[str, Any], ...]
    metrics: Metrics
    seconds: Durations
    versions: Mapping[str, str]

    def __post_init__(self) -> None:
        if not _holds_layer(self.caches, self.layer):
            raise ValueError(f"expected a layer of the run's caches, layer is {self.layer!r}")
        if len(set(self.classes)) < len(self.classes):
            raise ValueError(f"expected different names of classes, classes is {clipped(str(self.classes))}")


def _holds_layer(caches: Sequence[CacheRecord], layer: str) -> bool:
    """Return whether each part of a joined key is a layer of the cache it names."""
    try:
        layers = joined_layers(layer)
    except ValueError:  # the prefix of the cache is not a number
        return False
    return all(
        0 <= index < len(caches) and key in {stored.key for stored in caches[index].spec.layers}
        for index, key in layers
    )


class HeadRun(_Record, frozen=True, kw_only=True, tag="head"):
    """A run of `train_head`: a head on cached features.

    Attributes:
        created: Time of writing, UTC, as ISO 8601.
        caches: Caches it was trained on, in the order in which their features are concatenated.
        layer: Key of the layer that the head reads. Joined layers are separated by ``+``; ``2/`` marks a layer of
            the second cache.
        classes: Names of the classes.
        split: Record of the split.
        head: Record of the head.
        seed: Random seed.
        trials: Candidate hyper-parameters with their validation scores.
        metrics: Validation scores.
        seconds: Wall time.
        versions: Versions of the libraries.
        options: Options of `train_head` by name; None in a run of version 1.
    """

    options: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.train_options()

    def train_options(self) -> TrainHeadOptions | None:
        """Return the options of `train_head`; None in a run of version 1.

        Raises:
            OptionError: An option is not valid.
        """
        return None if self.options is None else TrainHeadOptions.read(self.options)


class TunedRun(_Record, frozen=True, kw_only=True, tag="finetune"):
    """A run of `finetune`: a backbone and a linear head trained together.

    Attributes:
        created: Time of writing, UTC, as ISO 8601.
        caches: The one cache, within the run, of the features of its own backbone; it may not exist yet.
        layer: Key of the layer that the head reads.
        classes: Names of the classes.
        split: Record of the split.
        head: Record of the head.
        seed: Random seed.
        trials: Always empty.
        metrics: Validation scores.
        seconds: Wall time.
        versions: Versions of the libraries.
        finetune: Record of the fine-tuning.
    """

    finetune: TuningRecord

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.caches) != 1:
            raise ValueError(f"expected one cache in a fine-tuned run, there are {len(self.caches)}")
        path = self.caches[0].path
        if path in {"", ".", ".."} or PurePath(path).name != path or PureWindowsPath(path).name != path:
            raise ValueError(
                f"expected the name of a file within the run as the path of its cache, it is {path!r}"
            )


RunRecord: TypeAlias = HeadRun | TunedRun


def save_record(folder: Path, record: RunRecord) -> None:
    """Write ``run.json`` into a folder."""
    document = {"format": RUN_FORMAT, "format_version": RUN_VERSION, **to_plain(record)}
    text = json.dumps(document, indent=2, allow_nan=False) + "\n"
    replace_file(folder / RUN_FILE, text.encode())


def read_record(folder: Path) -> RunRecord:
    """Read ``run.json`` of this format version or of an earlier one.

    Raises:
        RunError: The file is missing, malformed or of a later version.
    """
    file = folder / RUN_FILE
    if not folder.is_dir():
        raise _no_run(folder)
    try:
        text = read_listed(folder, RUN_FILE, raises=RunError, remedy=_REMEDY, limit=MAX_BYTES)
    except FileNotFoundError:
        raise _no_run(folder) from None
    described = Document(file, "the record of a run", _REMEDY, RunError)
    document = described.parse(text)
    if document.get("format") != RUN_FORMAT:
        raise described.error(f"format: expected {RUN_FORMAT!r}, got {reprlib.repr(document.get('format'))}")
    upgraded = _upgrade(document, _version(document, described))
    record: RunRecord = described.convert(upgraded, RunRecord)  # type: ignore[arg-type]  # a union is no type
    return record


def _no_run(folder: Path) -> RunError:
    if why := broken_link(folder):
        return RunError(f"{folder} {why}")
    return RunError(
        f"{folder} is not a run directory: it holds no {RUN_FILE}. Create one with: frostline train-head CACHE"
    )


def _version(document: Mapping[str, Any], described: Document) -> int:
    version = document.get("format_version")
    if type(version) is not int or version < 1:  # True is an int as well
        raise described.error(f"format_version: expected 1 to {RUN_VERSION}, got {reprlib.repr(version)}")
    if version > RUN_VERSION:
        raise RunError(
            f"{described.where} has format version {reprlib.repr(version)}; this Frostline reads 1 to {RUN_VERSION}."
            " Update Frostline, or use the one that wrote it."
        )
    return version


def _upgrade(document: dict[str, Any], version: int) -> dict[str, Any]:
    """Convert a document of an earlier version to the current format."""
    if version == 1:  # version 1 has one cache and no options
        document = {**document, "caches": [document.get("cache")]}
    if version == 2 and "asked" in document:
        document = {**document, "options": _flat(document["asked"])}
    if isinstance(caches := document.get("caches"), list):
        document = {
            **document,
            "caches": [with_current_names_in(cache, "check", EARLIER_CHECK_NAMES) for cache in caches],
        }
    document = with_current_names_in(document, "finetune", {"best": "best_epoch"})
    return {"kind": "head", **document}  # the first runs of version 2 lack the kind


def _flat(asked: Any) -> Any:
    """Return the options of version 2, which holds the search in a mapping of its own."""
    if not isinstance(asked, dict):
        return asked  # refused when it is converted
    search = asked.get("search")
    if isinstance(search, dict):
        search = {"search": search.get("method"), "trials": search.get("trials"), "jobs": search.get("jobs")}
    else:
        search = {"search": search}
    return {**asked, **search}
