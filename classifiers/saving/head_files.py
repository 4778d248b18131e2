"""Save and load fitted heads: arrays in safetensors or skops, everything else in JSON, and never a pickle."""

import hashlib
import io
import json
import zipfile
from collections.abc import Collection, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors
from skops import io as skops_io
from skops.io.exceptions import UntrustedTypesFoundException

from frostline.classifiers.errors import HeadError, HeadFormatError
from frostline.classifiers.fitting.fitted_head import Curve, FittedHead
from frostline.classifiers.fitting.projection import Projection, ProjectionPlan
from frostline.classifiers.heads.catalog import HEADS, recorded_head
from frostline.classifiers.heads.kinds import HeadKind
from frostline.classifiers.saving.trees import check_trees
from frostline.system.atomic import replace_file

FORMAT_VERSION = 1

_RECORD = "head.json"
_TENSORS, _SKOPS, _PROJECTION = "head.safetensors", "head.skops", "projection.safetensors"

# Present modules of classes in files that earlier versions wrote.
_FORMER_MODULES = {"classifiers.knn": "frostline.classifiers.heads.knn"}

# Every type in the pipelines of `frostline.classifiers.heads.catalog`: module, class and skops loader.
# skops by itself would trust every estimator of scikit-learn.
_TRUSTED = frozenset(
    {
        ("frostline.classifiers.heads.knn", "KNNHead", "ObjectNode"),
        ("builtins", "dict", "DictNode"),
        ("builtins", "list", "ListNode"),
        ("builtins", "str", "JsonNode"),
        ("builtins", "str", "TypeNode"),
        ("builtins", "tuple", "TupleNode"),
        ("numpy", "float32", "NdArrayNode"),
        ("numpy", "float64", "NdArrayNode"),
        ("numpy", "int32", "NdArrayNode"),
        ("numpy", "int64", "NdArrayNode"),
        ("numpy", "ndarray", "NdArrayNode"),
        ("numpy", "uint64", "NdArrayNode"),
        ("numpy.random._generator", "Generator", "RandomGeneratorNode"),
        # the name of sklearn._loss._loss in scikit-learn 1.8; importing skops registers it
        ("_loss", "CyHalfBinomialLoss", "LossNode"),
        ("_loss", "CyHalfMultinomialLoss", "LossNode"),
        ("sklearn._loss._loss", "CyHalfBinomialLoss", "LossNode"),
        ("sklearn._loss._loss", "CyHalfMultinomialLoss", "LossNode"),
        ("sklearn._loss.link", "Interval", "ObjectNode"),
        ("sklearn._loss.link", "LogitLink", "ObjectNode"),
        ("sklearn._loss.link", "MultinomialLogit", "ObjectNode"),
        ("sklearn._loss.loss", "HalfBinomialLoss", "ObjectNode"),
        ("sklearn._loss.loss", "HalfMultinomialLoss", "ObjectNode"),
        ("sklearn.discriminant_analysis", "LinearDiscriminantAnalysis", "ObjectNode"),
        ("sklearn.ensemble._forest", "RandomForestClassifier", "ObjectNode"),
        ("sklearn.ensemble._hist_gradient_boosting.binning", "_BinMapper", "ObjectNode"),
        (
            "sklearn.ensemble._hist_gradient_boosting.gradient_boosting",
            "HistGradientBoostingClassifier",
            "ObjectNode",
        ),
        ("sklearn.ensemble._hist_gradient_boosting.predictor", "TreePredictor", "ObjectNode"),
        ("sklearn.linear_model._logistic", "LogisticRegression", "ObjectNode"),
        ("sklearn.linear_model._ridge", "RidgeClassifier", "ObjectNode"),
        ("sklearn.neighbors._nearest_centroid", "NearestCentroid", "ObjectNode"),
        ("sklearn.pipeline", "Pipeline", "ObjectNode"),
        ("sklearn.preprocessing._data", "Normalizer", "ObjectNode"),
        ("sklearn.preprocessing._data", "StandardScaler", "ObjectNode"),
        ("sklearn.preprocessing._label", "LabelBinarizer", "ObjectNode"),
        ("sklearn.preprocessing._label", "LabelEncoder", "ObjectNode"),
        ("sklearn.svm._classes", "LinearSVC", "ObjectNode"),
        ("sklearn.svm._classes", "SVC", "ObjectNode"),
        ("sklearn.tree._classes", "DecisionTreeClassifier", "ObjectNode"),
        ("sklearn.tree._tree", "Tree", "TreeNode"),
    }
)


class _ProjectionRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Entry of head.json for projection.safetensors."""

    plan: ProjectionPlan
    sha256: str


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Content of head.json."""

    format_version: int
    name: str
    file: str
    sha256: str
    classes: tuple[str, ...]
    params: dict[str, Any]
    trials: tuple[dict[str, Any], ...]
    curve: Curve | None
    validation: dict[str, float]
    temperature: float
    seconds: float
    dim: int
    dtype: str
    versions: dict[str, str]
    projection: _ProjectionRecord | None = None


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
    record = _Record(
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
    )
    text = msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"
    replace_file(folder / file, data)
    replace_file(folder / _RECORD, text)


def _save_projection(projection: Projection, folder: Path) -> _ProjectionRecord:
    data = save_tensors({"mean": projection.mean, "components": projection.components})
    replace_file(folder / _PROJECTION, data)
    return _ProjectionRecord(projection.plan, hashlib.sha256(data).hexdigest())


def foreign_types(estimator: Any) -> tuple[str, ...]:
    """Return the full names of the types that the caller of `load_head` has to trust for this estimator.

    The result is empty for the built-in heads and for scikit-learn classifiers that skops trusts.
    """
    if hasattr(estimator, "to_tensors"):
        return ()
    data = skops_io.dumps(estimator)
    if not _types(data) - _TRUSTED:
        return ()
    return tuple(sorted(skops_io.get_untrusted_types(data=data)))


def load_head(folder: str | Path, *, trusted: Collection[str] = ()) -> FittedHead:
    """Load a head that `save_head` wrote.

    The loaded head returns bit-identical probabilities. A built-in head is loaded only if its file contains no
    types other than those of built-in heads. A third-party head is loaded if skops trusts all of its types (those
    of scikit-learn, numpy and scipy), or if its installed plugin or the caller trusts the remaining ones. Claims
    inside the file are ignored, because anyone who can change the arrays can also change those claims.

    Args:
        folder: Folder that the head was saved to.
        trusted: Full names of types that a third-party head may contain, e.g. ``mypackage.heads.MyHead``.

    Returns:
        The fitted head. A torch head uses the device ``auto``.

    Raises:
        HeadFormatError: A file is missing, was changed, has another format version or contains an untrusted type.
    """
    folder = Path(folder)
    record = _read_record(folder / _RECORD)
    data = _read_numbers(folder / record.file, record.sha256)
    try:
        if record.file == _SKOPS:
            data = _with_present_names(data)
        kind = recorded_head(record.name)
        params = kind.complete(kind.check(record.params))
        if record.file == _TENSORS:
            estimator = _from_tensors(kind, params, data)
        else:
            estimator = _from_skops(kind, params, data, trusted)
            check_trees(estimator[-1], _inner_dim(record))
    except (HeadError, SafetensorError) as error:
        raise HeadFormatError(f"{folder / record.file} does not fit {folder / _RECORD}: {error}") from error
    _check_estimator(estimator, record, folder)
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
    )


def _inner_dim(record: _Record) -> int:
    """Return the length of the vectors that the estimator reads."""
    return record.projection.plan.width if record.projection else record.dim


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


def _read_record(path: Path) -> _Record:
    try:
        record = msgspec.json.decode(path.read_bytes(), type=_Record)
    except FileNotFoundError:
        raise HeadFormatError(f"{path} is missing: {path.parent} holds no head; train one first") from None
    except msgspec.MsgspecError as error:
        raise HeadFormatError(f"{path} is not a valid head record: {error}; train the head again") from error
    if record.format_version != FORMAT_VERSION:
        _refuse(path, "format_version", record.format_version, FORMAT_VERSION)
    if record.file not in {_TENSORS, _SKOPS}:
        _refuse(path, "file", record.file, f"{_TENSORS} or {_SKOPS}")
    if not 0 < record.temperature < float("inf"):
        _refuse(path, "temperature", record.temperature, "a number above 0")
    return record


def _refuse(path: Path, what: str, got: object, expected: object) -> NoReturn:
    raise HeadFormatError(f"{path}: {what}: got {got!r}, expected {expected}; train the head again")


def _read_numbers(path: Path, sha256: str) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise HeadFormatError(f"{path} is missing; train the head again") from None
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise HeadFormatError(
            f"{path} does not match {_RECORD}: got SHA-256 {found}, expected {sha256}; "
            "restore it, or train the head again"
        )
    return data


def _from_tensors(kind: HeadKind, params: Mapping[str, Any], data: bytes) -> Any:
    estimator = kind.build(params, 0, "auto")
    if not hasattr(estimator, "from_tensors"):
        raise HeadError(f"a {kind.name!r} head is not saved as tensors")
    return estimator.from_tensors(load_tensors(data))


def _from_skops(kind: HeadKind, params: Mapping[str, Any], data: bytes, trusted: Collection[str]) -> Any:
    own = kind.name in HEADS.builtin
    vouched = _own_types(data) if own else _foreign_types(kind, params, data, trusted)
    try:
        estimator = skops_io.loads(data, trusted=vouched)
    except (UntrustedTypesFoundException, LookupError, TypeError, ValueError, AttributeError) as error:
        raise HeadError(f"skops can't read it: {error}") from error
    steps = [type(step) for _, step in getattr(estimator, "steps", [])]
    known = kind.name in HEADS  # one that is only recorded is the one step of its pipeline
    expected = [type(step) for step in _steps(kind, params)] if known else steps[-1:]
    if steps != expected or not steps:
        raise HeadError(f"got steps {_names(steps)}, expected {_names(expected)}")
    for _, step in estimator.steps:
        if "device" in step.get_params(deep=False):
            step.set_params(device="auto")  # this machine may lack the device that the head was trained on
    return estimator


def _steps(kind: HeadKind, params: Mapping[str, Any]) -> list[Any]:
    pipeline: Any = kind.build(params, 0, "auto")
    return [step for _, step in pipeline.steps]


def _own_types(data: bytes) -> list[str]:
    """Return the types for skops to trust in the file of a built-in head."""
    types = _types(data)
    foreign = types - _TRUSTED
    if foreign:
        names = ", ".join(sorted(f"{module}.{name} ({loader})" for module, name, loader in foreign))
        raise HeadError(f"it holds {names}, which no built-in head does; don't use a file you can't trust")
    return [f"{module}.{name}" for module, name, _ in types]


def _foreign_types(
    kind: HeadKind, params: Mapping[str, Any], data: bytes, trusted: Collection[str]
) -> list[str]:
    """Return the types for skops to trust in the file of a third-party head."""
    _types(data)  # raises HeadError if this is not a skops file
    vouched = set(trusted)
    if kind.name in HEADS:
        vouched |= {f"{type(step).__module__}.{type(step).__qualname__}" for step in _steps(kind, params)}
    unknown = sorted(set(skops_io.get_untrusted_types(data=data)) - vouched)
    if unknown:
        options = " ".join(f"--trust {name}" for name in unknown)
        raise HeadError(
            f"head {kind.name!r} holds types that skops doesn't trust by default: {', '.join(unknown)}. Reading them runs "
            f"their code; if you know where the file is from, allow it with {options}, or load_head(trusted=[...])"
        )
    return sorted(vouched)


def _names(types: list[type]) -> str:
    return ", ".join(kind.__name__ for kind in types) or "none"


def _with_present_names(data: bytes) -> bytes:
    """Return the skops file with the present module names of classes that have moved since it was written."""
    schema = _schema(data)
    moved = [node for node in _nodes(schema) if node.get("__module__") in _FORMER_MODULES]
    if not moved:
        return data
    for node in moved:
        node["__module__"] = _FORMER_MODULES[node["__module__"]]
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(written, "w") as renamed:
        for name in archive.namelist():
            renamed.writestr(name, json.dumps(schema) if name == "schema.json" else archive.read(name))
    return written.getvalue()


def _types(data: bytes) -> set[tuple[str, str, str]]:
    """Return the module, class and loader of every node in a skops file."""
    try:
        nodes = list(_nodes(_schema(data)))
    except (
        zipfile.BadZipFile,
        LookupError,
        RuntimeError,
    ) as error:  # a tree that is too deep raises RuntimeError
        raise HeadError(f"it is not a skops file: {error}") from error
    return {
        (str(node.get("__module__")), str(node.get("__class__")), str(node.get("__loader__")))
        for node in nodes
        if "__class__" in node or "__loader__" in node
    }


def _schema(data: bytes) -> Any:
    try:
        return _read_schema(data)
    except (zipfile.BadZipFile, LookupError, RuntimeError) as error:
        raise HeadError(f"it is not a skops file: {error}") from error


def _read_schema(data: bytes) -> Any:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise HeadError("it is compressed, as no built-in head is")  # it could unpack to any size
        try:
            return json.loads(archive.read("schema.json"))
        except ValueError as error:
            raise HeadError(f"it is not a skops file: {error}") from error


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
    children = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    for child in children:
        yield from _nodes(child)


def _check_estimator(estimator: Any, record: _Record, folder: Path) -> None:
    path = folder / record.file
    if estimator.n_features_in_ != _inner_dim(record):
        _refuse(path, "length of a feature vector", estimator.n_features_in_, _inner_dim(record))
    classes = np.asarray(estimator.classes_)
    if classes.dtype.kind != "i" or classes.min() < 0 or classes.max() >= len(record.classes):
        _refuse(path, "labels", classes.tolist(), f"indices of {len(record.classes)} classes")
