"""Save and load fitted heads: arrays in safetensors or skops, everything else in JSON, and never a pickle."""

import hashlib
import reprlib
from collections.abc import Collection, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
import numpy as np
from msgspec import Meta
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors
from skops import io as skops_io

from frostline.classifiers.errors import HeadError, HeadFormatError
from frostline.classifiers.fitting.columns import ColumnEncoding, EncodedColumn
from frostline.classifiers.fitting.fitted_head import Curve, FittedHead, logits, softened
from frostline.classifiers.fitting.projection import Projection, ProjectionPlan
from frostline.classifiers.heads.catalog import recorded_head
from frostline.classifiers.heads.kinds import HeadKind
from frostline.classifiers.saving.contents import check_contents
from frostline.classifiers.saving.skops_files import read_estimator
from frostline.files.archives import read_archive
from frostline.files.checksums import read_listed
from frostline.files.documents import MAX_BYTES, Document, Name, Sha256, clipped
from frostline.files.tensors import read_tensors
from frostline.system.atomic import replace_file

FORMAT_VERSION = 1

HEAD_RECORD = "head.json"
_REMEDY = "Restore the file from a copy, or train the head again."
_MAX_DIM = 1 << 31
HEAD_FILES = _TENSORS, _SKOPS, _PROJECTION = "head.safetensors", "head.skops", "projection.safetensors"


class _ProjectionRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Entry of head.json for projection.safetensors."""

    plan: ProjectionPlan
    sha256: Sha256

    def __post_init__(self) -> None:
        if not 1 <= self.plan.width <= _MAX_DIM:
            raise ValueError(f"expected a width of 1 to {_MAX_DIM}, width is {self.plan.width}")


class HeadFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Content of head.json."""

    format_version: int
    name: Name
    file: str
    sha256: Sha256
    classes: Annotated[tuple[str, ...], Meta(min_length=1)]
    params: dict[str, Any]
    trials: tuple[dict[str, Any], ...]
    curve: Curve | None
    validation: dict[str, float]
    temperature: Annotated[float, Meta(gt=0)]
    seconds: float
    dim: Annotated[int, Meta(ge=1, le=_MAX_DIM)]
    dtype: str
    versions: dict[str, str]
    projection: _ProjectionRecord | None = None
    columns: tuple[EncodedColumn, ...] = ()

    @property
    def inner_dim(self) -> int:
        """Length of the rows that the estimator reads."""
        width = self.projection.plan.width if self.projection else self.dim
        return width + sum(column.width for column in self.columns)


def save_head(fitted: FittedHead, folder: str | Path) -> None:
    """Save a head to an existing folder.

    Writes head.json and, beside it, head.safetensors or head.skops. A head with a projection also gets
    projection.safetensors. Each file is replaced as a whole, and the arrays are written before head.json.

    Args:
        fitted: The head to save.
        folder: Existing folder to write to.
    """
    folder = Path(folder)
    if hasattr(fitted.estimator, "to_tensors"):
        tensors = {name: np.ascontiguousarray(value) for name, value in fitted.estimator.to_tensors().items()}
        file, data = _TENSORS, save_tensors(tensors)
    else:
        file, data = _SKOPS, skops_io.dumps(fitted.estimator)
    projection = _save_projection(fitted.projection, folder) if fitted.projection else None
    record = HeadFile(
        format_version=FORMAT_VERSION,
        name=fitted.name,
        file=file,
        sha256=hashlib.sha256(data).hexdigest(),
        classes=fitted.classes,
        params=dict(fitted.params),
        trials=tuple(dict(trial) for trial in fitted.trials),
        curve=fitted.curve,
        validation=dict(fitted.validation),
        temperature=fitted.temperature,
        seconds=fitted.seconds,
        dim=fitted.dim,
        dtype=fitted.dtype,
        versions={name: version(name) for name in ("numpy", "safetensors", "scikit-learn", "skops", "torch")},
        projection=projection,
        columns=fitted.columns.columns if fitted.columns else (),
    )
    text = msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"
    replace_file(folder / file, data)
    replace_file(folder / HEAD_RECORD, text)


def _save_projection(projection: Projection, folder: Path) -> _ProjectionRecord:
    data = save_tensors({"mean": projection.mean, "components": projection.components})
    replace_file(folder / _PROJECTION, data)
    return _ProjectionRecord(projection.plan, hashlib.sha256(data).hexdigest())


def load_head(folder: str | Path, *, trusted: Collection[str] = ()) -> FittedHead:
    """Load a head that `save_head` wrote.

    The loaded head returns bit-identical probabilities. A built-in head is loaded only if its file contains no
    types other than those of built-in heads. A third-party head is loaded if skops trusts all of its types (those
    of scikit-learn, numpy and scipy), or if its installed plugin or the caller trusts the remaining ones. Claims
    inside the file are ignored, because anyone who can change the arrays can also change those claims.

    Args:
        folder: Folder that the head was saved to.
        trusted: Modules of the types that a third-party head may contain, or full names of types, e.g.
            ``mypackage.heads.MyHead``.

    Returns:
        The fitted head. A torch head uses the device ``auto``.

    Raises:
        HeadFormatError: A file is missing, was changed, has another format version or contains an untrusted type.
    """
    folder = Path(folder)
    record = read_head_record(folder)
    data = _read_numbers(folder / record.file, record.sha256)
    try:
        kind = recorded_head(record.name)
        params = kind.complete(kind.check(record.params))
        if record.file == _TENSORS:
            estimator = _from_tensors(kind, params, data)
        else:
            estimator = read_estimator(kind, params, data, trusted)
            check_contents(estimator)
        _check_estimator(estimator, record)
        _check_scores(kind, estimator, record)
    except (
        Exception,
        MemoryError,
    ) as error:  # skops and estimators raise anything for attributes that don't fit
        problem = clipped(str(error)) or type(error).__name__
        raise HeadFormatError(
            f"{folder / record.file} does not fit {folder / HEAD_RECORD}: {problem}. {_REMEDY}"
        ) from error
    projection = _load_projection(record.projection, record.dim, folder) if record.projection else None
    return FittedHead(
        name=record.name,
        estimator=estimator,
        classes=record.classes,
        params=params,
        trials=record.trials,
        curve=record.curve,
        validation=record.validation,
        temperature=record.temperature,
        seconds=record.seconds,
        dim=record.dim,
        dtype=record.dtype,
        projection=projection,
        columns=ColumnEncoding(record.columns) if record.columns else None,
    )


def _load_projection(record: _ProjectionRecord, dim: int, folder: Path) -> Projection:
    path = folder / _PROJECTION
    try:
        tensors = load_tensors(_read_numbers(path, record.sha256))
        mean, components = tensors["mean"], tensors["components"]
    except (KeyError, SafetensorError) as error:
        raise HeadFormatError(f"{path} holds no projection: {error}; train the head again") from error
    found = {"mean": (mean.dtype, mean.shape), "components": (components.dtype, components.shape)}
    single = np.dtype(np.float32)
    expected = {"mean": (single, (dim,)), "components": (single, (record.plan.width, dim))}
    if found != expected:
        _refuse(path, "projection", found, expected)
    return Projection(record.plan, mean, components)


def check_head_files(folder: Path) -> None:
    """Check the files of a head against the digests in head.json, without loading the head.

    Raises:
        HeadFormatError: A file is missing or was changed.
    """
    record = read_head_record(folder)
    _read_numbers(folder / record.file, record.sha256)
    if record.projection:
        _read_numbers(folder / _PROJECTION, record.projection.sha256)


def read_head_record(folder: Path) -> HeadFile:
    """Read head.json.

    Raises:
        HeadFormatError: The file is missing, malformed, of another version, or was changed.
    """
    path = folder / HEAD_RECORD
    try:
        text = read_listed(path.parent, path.name, raises=HeadFormatError, remedy=_REMEDY, limit=MAX_BYTES)
    except FileNotFoundError:
        raise HeadFormatError(f"{path} is missing: {path.parent} holds no head; train one first") from None
    described = Document(path, "the record of a head", _REMEDY, HeadFormatError)
    document = described.parse(text)
    version = document.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:  # True is an int as well
        _refuse(path, "format_version", version, FORMAT_VERSION)
    record = described.convert(document, HeadFile)
    if record.file not in {_TENSORS, _SKOPS}:
        _refuse(path, "file", record.file, f"{_TENSORS} or {_SKOPS}")
    if len(set(record.classes)) < len(record.classes):
        _refuse(path, "classes", record.classes, "different names")
    return record


def _refuse(path: Path, what: str, got: object, expected: object) -> NoReturn:
    raise HeadFormatError(
        f"{path}: {what}: got {reprlib.repr(got)}, expected {expected}; train the head again"
    )


def _read_numbers(path: Path, sha256: str) -> bytes:
    try:
        data = read_archive(path) if path.name == _SKOPS else read_tensors(path)
    except FileNotFoundError:
        raise HeadFormatError(f"{path} is missing; train the head again") from None
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or error
        raise HeadFormatError(f"{path} can't be read: {problem}. {_REMEDY}") from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise HeadFormatError(
            f"{path} does not match {HEAD_RECORD}: got SHA-256 {found}, expected {sha256}; "
            "restore it, or train the head again"
        )
    return data


def _from_tensors(kind: HeadKind, params: Mapping[str, Any], data: bytes) -> Any:
    estimator = kind.build(params, 0, "auto")
    if not hasattr(estimator, "from_tensors"):
        raise HeadError(f"a {kind.name!r} head is not saved as tensors")
    return estimator.from_tensors(load_tensors(data))


def _check_estimator(estimator: Any, record: HeadFile) -> None:
    if estimator.n_features_in_ != record.inner_dim:
        raise HeadError(
            f"length of a feature vector: got {estimator.n_features_in_}, expected {record.inner_dim}"
        )
    classes = np.asarray(estimator.classes_)
    known = len(record.classes)
    if (
        classes.dtype.kind != "i"
        or classes.ndim != 1
        or not len(classes)
        or classes.min() < 0
        or classes.max() >= known
    ):
        raise HeadError(f"labels: got {reprlib.repr(classes.tolist())}, expected indices of {known} classes")
    if len(np.unique(classes)) < len(classes):
        raise HeadError(f"labels: got {reprlib.repr(classes.tolist())}, expected each once")


def _check_scores(kind: HeadKind, estimator: Any, record: HeadFile) -> None:
    """Score one vector, which fails if the arrays of the estimator contradict each other, or the temperature."""
    with np.errstate(all="ignore"):  # what overflows is not finite
        scores = logits(kind, estimator, np.zeros((1, record.inner_dim), np.float32), len(record.classes))
        softened(scores, record.temperature)
