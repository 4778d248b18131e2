"""Files that hold arrays with names: which of them are vectors, and which tell something of the rows."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from frostline.features.cache.imported.vectors import EMBEDDING, Vectors, check_vectors
from frostline.features.errors import VectorsError
from frostline.files.documents import parse_json
from frostline.pipeline.importing.importers import FoundVectors, Wanted
from frostline.splits import SPLITS

DESCRIPTION_FORMAT: Final = "frostline-vectors"
"""Format of the description in files that Frostline exported."""

_ROLES = ("id", "label", "split", "group", "classes")
_BESIDE = frozenset({"rows", "content", "provenance"})  # of an export, which are not needed
_MAX_TEXT = 1 << 27  # bytes of what is told of the rows, per array


@dataclass(frozen=True, eq=False)
class NamedArray:
    """Array of a file.

    Attributes:
        shape: Its shape.
        dtype: Name of the type of its elements.
        vectors: Function that returns it as vectors.
        values: Function that returns it whole.
    """

    shape: tuple[int, ...]
    dtype: str
    vectors: Callable[[], Vectors]
    values: Callable[[], NDArray[Any]]


def found_arrays(
    wanted: Wanted, arrays: Mapping[str, NamedArray], description: Mapping[str, Any] | None = None
) -> FoundVectors:
    """Return the vectors among the arrays of a file, and what others tell of the rows.

    Args:
        wanted: What is to be read.
        arrays: The arrays by name.
        description: What an export of Frostline says; empty or None for another file.

    Raises:
        VectorsError: A named array is missing, several may be meant, or one has another shape or type.
    """
    description = description or {}
    roles = {role: name for role in _ROLES if (name := wanted.role(role, arrays.keys())) is not None}
    chosen = (
        wanted.arrays
        or described_layers(description, arrays.keys())
        or _only(wanted, arrays, {*roles.values()})
    )
    layers: dict[str, Vectors] = {}
    for name in chosen:
        if name not in arrays:
            raise VectorsError(f"{wanted.path}: --array: it has no {name!r}; it has {shapes(arrays)}")
        array = arrays[name]
        check_vectors(array.shape, array.dtype, f"{wanted.path}, its array {name!r}")
        layers[layer_key(description, name) if description else name.replace("/", ".")] = array.vectors()
    if len(layers) < len(chosen):
        raise VectorsError(f"{wanted.path}: --array: the names {', '.join(chosen)} are not different")
    if len(layers) == 1 and not description:
        layers = {EMBEDDING: next(iter(layers.values()))}
    facts = {
        role: _values(arrays[name], role, f"{wanted.path}, its array {name!r}")
        for role, name in roles.items()
    }
    if "classes" not in facts and isinstance(description.get("classes"), list) and "label" in facts:
        facts["classes"] = description["classes"]
    columns = [name for name, _ in _described(description, "columns") if name in arrays]
    side = {
        column_key(description, name): _side_values(arrays[name], f"{wanted.path}, its array {name!r}")
        for name in columns
    }
    beside = {*chosen, *roles.values(), *columns, *(_BESIDE if description else ())}
    return FoundVectors(layers, facts, roles, side, sorted(arrays.keys() - beside), description)


def _only(wanted: Wanted, arrays: Mapping[str, NamedArray], taken: set[str]) -> list[str]:
    found = [name for name, array in arrays.items() if len(array.shape) == 2 and name not in taken]
    if len(found) == 1:
        return found
    if not found:
        raise VectorsError(
            f"{wanted.path}: holds no array of shape (n, d), one vector per row; it has {shapes(arrays)}"
        )
    raise VectorsError(
        f"{wanted.path}: holds several arrays that may be the vectors: {shapes({name: arrays[name] for name in found})}."
        " Name one with --array KEY, or several for as many layers"
    )


def shapes(arrays: Mapping[str, NamedArray]) -> str:
    """Return the names, types and shapes of arrays, for messages."""
    shown = [f"{name!r} {array.dtype}{array.shape}" for name, array in [*arrays.items()][:10]]
    return ", ".join([*shown, "..."] if len(arrays) > len(shown) else shown) or "none"


def read_description(text: Any) -> dict[str, Any]:
    """Return what an export of Frostline says of its vectors; empty for another text."""
    try:
        document = parse_json(text)
    except ValueError:
        return {}
    if not isinstance(document, dict) or document.get("format") != DESCRIPTION_FORMAT:
        return {}
    return document


def described_layers(description: Mapping[str, Any], names: Any) -> list[str]:
    """Return the names of the arrays of a described file that are layers; empty for another file."""
    return [name for name, _ in _described(description, "layers") if name in names]


def layer_key(description: Mapping[str, Any], name: str) -> str:
    """Return the key of the layer that has a name in a described file."""
    return next((key for each, key in _described(description, "layers") if each == name), name)


def column_key(description: Mapping[str, Any], name: str) -> str:
    """Return the name of the side column that has another name in a described file."""
    return next((key for each, key in _described(description, "columns") if each == name), name)


def _described(description: Mapping[str, Any], what: str) -> list[tuple[str, str]]:
    """Return the name in a described file, and the key, of each layer or side column."""
    described = description.get(what)
    entries = [each for each in described if isinstance(each, dict)] if isinstance(described, list) else []
    return [
        (name, each["key"] if isinstance(each.get("key"), str) else name)
        for each in entries
        if isinstance(name := each.get("name", each.get("key")), str)
    ]


def _side_values(array: NamedArray, where: str) -> list[Any]:
    """Return the values of a side column; bytes are UTF-8 text."""
    values = _values(array, "column", where)
    items = values.tolist() if isinstance(values, np.ndarray) else values
    try:
        return [value.decode() if isinstance(value, bytes) else value for value in items]
    except UnicodeDecodeError as error:
        raise VectorsError(f"{where}: a text is not UTF-8 ({error})") from None


def _values(array: NamedArray, role: str, where: str) -> Any:
    """Return the values of an array that tells something of the rows."""
    size = int(np.prod(array.shape, dtype=object))
    if size > _MAX_TEXT:
        raise VectorsError(f"{where}: has {size:,} elements, expected one per row")
    values = array.values()
    if role == "classes" and values.ndim == 0:  # JSON in an array without axes
        try:
            values = np.array(json.loads(str(values)))
        except ValueError:
            raise VectorsError(f"{where}: got one text, expected the names of the classes") from None
    if values.dtype == np.uint8 and values.ndim == 2 and role in {"id", "group", "label", "column"}:
        return [bytes(row).rstrip(b"\0") for row in values]
    if role == "split" and values.dtype == np.uint8 and values.ndim == 1:
        if values.size and values.max() >= len(SPLITS):
            raise VectorsError(
                f"{where}: got the code {values.max()}, expected 0 to {len(SPLITS) - 1}: {SPLITS}"
            )
        return np.array(SPLITS)[values]
    if values.dtype.kind not in "iuUSfb" and values.dtype.kind != "T":
        raise VectorsError(f"{where}: got {values.dtype}, expected texts or whole numbers")
    return values
