"""Estimators in skops files, of which only types that are trusted are read."""

import io
import json
import zipfile
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from skops import io as skops_io
from skops.io.exceptions import UntrustedTypesFoundException

from frostline.classifiers.errors import HeadError
from frostline.classifiers.heads.catalog import HEADS
from frostline.classifiers.heads.kinds import HeadKind
from frostline.classifiers.heads.trust import is_trusted, trust_option
from frostline.files.archives import check_stored

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


def read_estimator(kind: HeadKind, params: Mapping[str, Any], data: bytes, trusted: Collection[str]) -> Any:
    """Return the estimator in a skops file of a head.

    Args:
        kind: Kind of the head.
        params: All parameters of the head.
        data: The file.
        trusted: Modules of the types that a third-party head may contain, or full names of types.

    Raises:
        HeadError: The data is not such a file, contains an untrusted type, or is another estimator.
    """
    try:
        check_stored(data)
    except ValueError as error:
        raise HeadError(f"it is not a skops file of Frostline: {error}") from error
    data = _with_present_names(data)
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
    vouched: set[str] = set()
    if kind.name in HEADS:
        vouched |= {f"{type(step).__module__}.{type(step).__qualname__}" for step in _steps(kind, params)}
    found = set(skops_io.get_untrusted_types(data=data))
    vouched |= {name for name in found if is_trusted(name, trusted)}
    unknown = sorted(found - vouched)
    if unknown:
        options = trust_option(*unknown)
        raise HeadError(
            f"head {kind.name!r} holds types that skops doesn't trust by default: {', '.join(unknown)}. Reading them runs "
            f"their code; if you know where the file is from, allow it with {options}; in Python, trusted={unknown!r}"
        )
    return sorted(vouched)


def _names(types: list[type]) -> str:
    return ", ".join(kind.__name__ for kind in types) or "none"


def _with_present_names(data: bytes) -> bytes:
    """Return the skops file with the present module names of classes that have moved since it was written."""
    schema = _schema(data)
    moved = [node for node in _nodes(schema) if str(node.get("__module__")) in _FORMER_MODULES]
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
    return {
        (str(node.get("__module__")), str(node.get("__class__")), str(node.get("__loader__")))
        for node in _nodes(_schema(data))
        if "__class__" in node or "__loader__" in node
    }


def _schema(data: bytes) -> Any:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return json.loads(archive.read("schema.json"))
    except (zipfile.BadZipFile, ValueError, LookupError, RecursionError) as error:
        raise HeadError(f"it is not a skops file: {error}") from error


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    level = [tree]
    while level:
        value = level.pop()
        if isinstance(value, dict):
            yield value
            level += value.values()
        elif isinstance(value, list):
            level += value
