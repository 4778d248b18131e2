"""Run directories: naming, atomic writing, and validated reading of their JSON files."""

import contextlib
import itertools
import json
import os
import re
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from frostline.pipeline.errors import RunError
from frostline.pipeline.progress import Reporter
from frostline.system.atomic import (
    delete_unused,
    locked,
    names_in,
    replace_files,
    sweep_folder,
    write_folder,
)
from frostline.system.files import create_folders
from frostline.system.locks import LockHeldError

FEATURES = "features.h5"
"""File in a fine-tuned run that caches the features of its own backbone."""

FEW_SHOT = "few-shot"
LEARNING_CURVE = "learning-curve"

_WORK = re.compile(r"tuning|lock|(search\.)?[0-9a-f]{16}\.jsonl|([a-z0-9_]{8}|\d+-\d+)\.partial")
"""Names of files beside a run, after ``.RUN.``, that are needed only until it is finished."""

_MAX_LEVELS = 32  # levels of nesting; documents of Frostline have fewer than ten
_MESSAGE = re.compile(r"(.*) - at `\$(.*)`", re.DOTALL)
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]")

T = TypeVar("T")


def default_run_path(cache: Path, head: str, folder: str | Path = "runs") -> Path:
    """Return the path of the first run of a head on a cache, ``FOLDER/CACHE-HEAD``."""
    return Path(folder) / f"{cache.stem}-{head.rpartition(':')[2]}"


def numbered(path: Path) -> Iterator[Path]:
    """Yield ``PATH``, then ``PATH-2``, ``PATH-3`` and so on."""
    yield path
    yield from (path.with_name(f"{path.name}-{number}") for number in itertools.count(2))


def new_run_path(path: Path) -> Path:
    """Return the first of the paths of `numbered` that is unused."""
    return next(each for each in numbered(path) if not os.path.lexists(each))


@contextmanager
def claim_run(given: str | Path | None, default: Path, report: Reporter) -> Iterator[Path]:
    """Yield the path of a new run, which no other process can claim until the block ends.

    What killed processes left beside the finished runs of the same name is deleted.

    Args:
        given: Path that the user chose; None for the first free one of `default`, ``DEFAULT-2`` and so on.
        default: Path of the first run with the default name.
        report: Receiver of a note if another process is writing the run with the default name.

    Raises:
        RunError: The chosen path exists already, or another process is writing it.
    """
    with ExitStack() as claims:
        if given is not None:
            yield _claimed(Path(given), claims)
        else:
            yield _first_free(default, claims, report)


def _claimed(path: Path, claims: ExitStack) -> Path:
    """Claim a path that the user chose."""
    sweep_runs([path])
    check_new(path)
    try:
        _claim(path, claims)
    except LockHeldError as error:
        raise RunError(
            f"{path}: {error.who} is writing it. Wait until it is done, choose another folder, or omit the option for a"
            " new one."
        ) from None
    check_new(path)  # another process may have finished in between
    return path


def _first_free(default: Path, claims: ExitStack, report: Reporter) -> Path:
    """Claim the first default path that neither exists nor is being written."""
    busy = ""
    for path in numbered(default):
        sweep_runs([path])
        if os.path.lexists(path):
            continue
        try:
            _claim(path, claims)
        except LockHeldError as error:
            busy = f"{path}: {error.who} is writing it"
            continue
        if os.path.lexists(path):  # another process finished in between
            claims.close()
            continue
        if busy:
            report.note(f"{busy}, so this one writes {path}.")
        return path
    raise AssertionError


def _claim(path: Path, claims: ExitStack) -> None:
    create_folders(path.parent)
    claims.enter_context(locked(_lock_path(path), delete=True))


def sweep_runs(paths: Iterable[Path]) -> None:
    """Delete what killed processes left in finished runs, and beside them: working files that are no longer needed."""
    by_folder: dict[Path, list[Path]] = {}
    for path in paths:
        if path.is_dir():
            by_folder.setdefault(path.parent, []).append(path)
    for folder, runs in by_folder.items():
        names = [name for name in names_in(folder) if name.startswith(".")]
        for run in runs:
            sweep_folder(run)
            prefix = f".{run.name}."
            left = [name for name in names if name.startswith(prefix) and _WORK.fullmatch(name, len(prefix))]
            if left:
                _delete_work(run, left)


def _delete_work(run: Path, names: Sequence[str]) -> None:
    with contextlib.suppress(LockHeldError, OSError), locked(_lock_path(run), delete=True):
        for name in names:
            delete_unused(run.with_name(name))


def _lock_path(run: Path) -> Path:
    return run.with_name(f".{run.name}.lock")


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
    """Yield a folder for the files of a new run, which becomes `path` when the block ends without an error.

    The last file to be written says that the run is complete.

    Raises:
        RunError: The path exists already.
    """
    check_new(path)
    try:
        with write_folder(path) as folder:
            yield folder
    except FileExistsError:
        check_new(path)
        raise


def update_run(path: Path, files: Mapping[str, bytes], *, outdated: Iterable[str] = ()) -> None:
    """Write files into a finished run, one process at a time; see `frostline.system.atomic.replace_files`.

    Args:
        path: Run directory.
        files: Content of each file by name. The last one says that all are there.
        outdated: Names of files that belong to the earlier content, and are deleted.
    """
    with locked(path, folder=True, wait=True):
        replace_files(
            {path / name: data for name, data in files.items()}, outdated=[path / name for name in outdated]
        )


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
