"""Run directories: naming, atomic writing, and validated reading of their JSON files."""

import json
import os
import re
import reprlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from frostline.pipeline.errors import RunError
from frostline.system.atomic import write_folder

FEATURES = "features.h5"
"""File in a fine-tuned run that caches the features of its own backbone."""

FEW_SHOT = "few-shot"
LEARNING_CURVE = "learning-curve"

_MAX_LEVELS = 32  # levels of nesting; documents of Frostline have fewer than ten
_MESSAGE = re.compile(r"(.*) - at `\$(.*)`", re.DOTALL)
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]")

T = TypeVar("T")


def new_run_path(cache: Path, head: str, folder: str | Path = "runs") -> Path:
    """Return an unused path under `folder`: ``CACHE-HEAD``, then ``CACHE-HEAD-2`` and so on."""
    stem = Path(folder) / f"{cache.stem}-{head.rpartition(':')[2]}"
    path, number = stem, 1
    while os.path.lexists(path):
        number += 1
        path = stem.with_name(f"{stem.name}-{number}")
    return path


def is_of_sample_sizes(folder: str | Path) -> bool:
    """Return whether few-shot or learning-curve wrote the folder, which then is not a run."""
    return any((Path(folder) / f"{name}.json").exists() for name in (FEW_SHOT, LEARNING_CURVE))


def check_new(path: Path) -> None:
    """Check that a path does not exist.

    Raises:
        RunError: The path exists already.
    """
    if os.path.lexists(path):
        raise RunError(
            f"{path} exists already, and a run is never overwritten."
            " Choose another folder, omit the option for a new one, or delete it."
        )


@contextmanager
def write_run(path: Path) -> Iterator[Path]:
    """Yield a temporary folder next to `path` that is renamed to `path` when the block ends without an error.

    Raises:
        RunError: The path exists already.
    """
    check_new(path)
    with write_folder(path) as folder:
        yield folder


@dataclass(frozen=True)
class Document:
    """Description of a JSON object in an untrusted file, for validation and error messages.

    Attributes:
        where: The file, and the line if it holds several objects.
        what: Expected content, e.g. ``the record of a run``.
        remedy: Sentence that says what to do if the content is invalid.
    """

    where: str | Path
    what: str
    remedy: str

    def parse(self, text: bytes) -> dict[str, Any]:
        """Parse the JSON.

        Raises:
            RunError: The text is not JSON, is not an object, or is nested too deeply.
        """
        try:
            document = _decoded(text)
        except (ValueError, RecursionError) as error:  # a DecodeError is a ValueError
            raise self.error(str(error)) from error
        if not isinstance(document, dict):
            raise self.error(f"got {reprlib.repr(document)}, expected a JSON object")
        if _is_deep(document):
            raise self.error(f"it is nested more than {_MAX_LEVELS} levels deep")
        return document

    def convert(self, document: dict[str, Any], kind: type[T]) -> T:
        """Convert a parsed document strictly to a type; unknown fields are ignored.

        Raises:
            RunError: A field is missing, has another type or is out of range; the message names it.
        """
        try:
            return msgspec.convert(document, kind)
        except msgspec.ValidationError as error:
            message, field = _split(str(error))
            found = reprlib.repr(_value_at(document, field))
            expected = message.rpartition(", got ")[0] or message
            where = f"{field.lstrip('.')}: " if field else ""
            raise self.error(f"{where}{expected[:1].lower()}{expected[1:]}, got {found}") from error

    def read(self, text: bytes, kind: type[T], *, renamed: Mapping[str, str]) -> T:
        """Parse JSON and convert it to a type; see `parse` and `convert`.

        Args:
            text: The JSON.
            kind: Type of the result.
            renamed: Current name of each field that earlier versions wrote under another name.
        """
        return self.convert(with_current_names(self.parse(text), renamed), kind)

    def error(self, problem: str) -> RunError:
        """Return an error that names the file, the problem and the remedy."""
        return RunError(f"{self.where} is not {self.what}: {problem}. {self.remedy}")


def _decoded(text: bytes) -> Any:
    """Parse JSON. Names of files that are not UTF-8 hold lone surrogates, which msgspec refuses."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        if "surrogate" not in str(error):
            raise
        return json.loads(text)


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
