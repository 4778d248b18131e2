"""JSON documents of untrusted files: parsed with bounds, and converted strictly to a type."""

import json
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeAlias, TypeVar

import msgspec

from frostline.errors import FrostlineError

MAX_BYTES = 1 << 27
"""Largest JSON document that is read. Those of Frostline have a few megabytes at most."""

_READ, _SHOWN = 10_000, 300  # characters of a message
_MAX_LEVELS = 32  # levels of nesting; documents of Frostline have fewer than ten
_MESSAGE = re.compile(r"(.*) - at `\$(.*)`", re.DOTALL)
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]")

T = TypeVar("T")

Name: TypeAlias = Annotated[str, msgspec.Meta(max_length=4096)]
"""Field with a name or a path, which messages may show."""

Sha256: TypeAlias = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
"""Field with a SHA-256 in hexadecimal."""


def parse_json(text: bytes | str) -> Any:
    """Parse JSON of at most 32 levels, whose numbers are finite. Text may hold lone surrogates, as names of files do.

    Raises:
        ValueError: The text is not such a document.
    """
    try:
        document = _decoded(text)
    except RecursionError:
        raise ValueError(f"it is nested more than {_MAX_LEVELS} levels deep") from None
    if _is_deep(document):
        raise ValueError(f"it is nested more than {_MAX_LEVELS} levels deep")
    return document


def convert(document: Any, kind: type[T]) -> T:
    """Convert a parsed document strictly to a type; unknown fields are ignored.

    Raises:
        ValueError: A field is missing, has another type or is out of range; the message names it.
    """
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        message, field = _split(str(error))
        found = reprlib.repr(_value_at(document, field))
        expected = message.rpartition(", got ")[0] or message
        where = f"{field.lstrip('.')}: " if field else ""
        raise ValueError(f"{where}{expected[:1].lower()}{expected[1:]}, got {found}") from error


@dataclass(frozen=True)
class Document:
    """Description of a JSON object in an untrusted file, for validation and error messages.

    Attributes:
        where: The file, and the line if it holds several objects.
        what: Expected content, e.g. ``the record of a run``.
        remedy: Sentence that says what to do if the content is invalid.
        raises: Class of the errors.
    """

    where: str | Path
    what: str
    remedy: str
    raises: type[FrostlineError]

    def parse(self, text: bytes) -> dict[str, Any]:
        """Parse the JSON.

        Raises:
            FrostlineError: The text is not JSON, is not an object, or is nested too deeply.
        """
        try:
            document = parse_json(text)
        except ValueError as error:
            raise self.error(str(error)) from error
        if not isinstance(document, dict):
            raise self.error(f"got {reprlib.repr(document)}, expected a JSON object")
        return document

    def convert(self, document: dict[str, Any], kind: type[T]) -> T:
        """Convert a parsed document strictly to a type; unknown fields are ignored.

        Raises:
            FrostlineError: A field is missing, has another type or is out of range; the message names it.
        """
        try:
            return convert(document, kind)
        except ValueError as error:
            raise self.error(str(error)) from error

    def read(self, text: bytes, kind: type[T], *, renamed: Mapping[str, str] | None = None) -> T:
        """Parse JSON and convert it to a type; see `parse` and `convert`.

        Args:
            text: The JSON.
            kind: Type of the result.
            renamed: Current name of each field that earlier versions wrote under another name.
        """
        return self.convert(with_current_names(self.parse(text), renamed or {}), kind)

    def error(self, problem: str) -> FrostlineError:
        """Return an error that names the file, the problem and the remedy."""
        return self.raises(f"{self.where} is not {self.what}: {clipped(problem)}. {self.remedy}")


def clipped(text: str) -> str:
    """Return a text of a file, or of an error about one, in one line of at most 300 characters."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text[:_READ]).split())
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN // 2]}...{line[-_SHOWN // 2 :]}"


def with_current_names(document: Mapping[str, Any], renamed: Mapping[str, str]) -> dict[str, Any]:
    """Return a document whose fields have their current names, given those by their earlier names."""
    return {renamed.get(name, name): value for name, value in document.items()}


def with_current_names_in(document: Any, field: str, renamed: Mapping[str, str]) -> Any:
    """Return a document with current names in the object of one of its fields; see `with_current_names`.

    A document without such an object is returned as it is.
    """
    if not isinstance(document, dict) or not isinstance(document.get(field), dict):
        return document
    return {**document, field: with_current_names(document[field], renamed)}


def to_plain(value: Any) -> Any:
    """Convert structs and dataclasses to values that the `json` module can write."""
    return msgspec.to_builtins(value, enc_hook=_as_plain)


def _as_plain(value: Any) -> Any:
    """Convert other mappings, and subclasses of str and float such as torch's version, to the plain type."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, float):
        return float(value)
    raise TypeError(f"{value!r} of type {type(value).__name__} can't be written as JSON")


def _decoded(text: bytes | str) -> Any:
    """Parse JSON. Names of files that are not UTF-8 hold lone surrogates, which msgspec refuses."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        if "surrogate" not in str(error):
            raise
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if value in {float("inf"), float("-inf")}:
        raise ValueError(f"the number {reprlib.repr(digits)} is out of range")
    return value


def _is_deep(document: Any) -> bool:
    level = [document]
    for _ in range(_MAX_LEVELS):
        level = [child for each in level for child in _children(each)]
    return bool(level)


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _split(message: str) -> tuple[str, str]:
    """Split a message of msgspec into the text and the field; the field is empty for the whole document."""
    found = _MESSAGE.fullmatch(message)
    said, field = found.groups() if found else (message, "")
    return said.replace("`", ""), field


def _value_at(document: Any, field: str) -> Any:
    """Return the value at a field named by msgspec, or the deepest parent that can be found."""
    for name, index in _STEP.findall(field.partition("[...]")[0]):
        try:
            document = document[name or int(index)]
        except (LookupError, TypeError):  # a key of the file, not a path of msgspec
            break
    return document
