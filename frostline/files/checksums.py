"""``SHA256SUMS``: the digests of the files of a folder, in the format of the program ``sha256sum``.

A folder without the file, as earlier versions wrote it, is read without checks.
"""

import hashlib
import os
import re
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from frostline.errors import FrostlineError
from frostline.system.atomic import locked, replace_file
from frostline.system.files import check_size, open_regular, read_regular
from frostline.system.locks import LockHeldError

SUMS_FILE = "SHA256SUMS"

Digests: TypeAlias = Mapping[str, str]
"""SHA-256 in hexadecimal of each file, by its path within the folder, with forward slashes."""

_LIMIT = 1 << 24  # bytes of SHA256SUMS
_PATIENCE = 60.0  # seconds
_CHUNK = 1 << 20
_LINE = re.compile(rb"(\\?)([0-9a-f]{64}) [ *](.+)", re.DOTALL)
_ESCAPES = {b"\\": b"\\\\", b"\n": b"\\n", b"\r": b"\\r"}
_ESCAPED = {escape: byte for byte, escape in _ESCAPES.items()}


def format_sums(digests: Digests) -> bytes:
    """Return the text of ``SHA256SUMS``, sorted by name."""
    return b"".join(_line(os.fsencode(name), digests[name]) for name in sorted(digests))


def parse_sums(text: bytes) -> dict[str, str]:
    """Return the digests of a text in the format of ``sha256sum``.

    Raises:
        ValueError: A line has another format, or names a file twice or outside of the folder.
    """
    digests: dict[str, str] = {}
    for number, line in enumerate(text.removesuffix(b"\n").split(b"\n") if text else (), 1):
        found = _LINE.fullmatch(line)
        if not found:
            raise ValueError(f"line {number} is not a SHA-256, two spaces and a name")
        raw = re.sub(rb"\\[\\nr]", lambda escape: _ESCAPED[escape[0]], found[3]) if found[1] else found[3]
        name = os.fsdecode(raw)
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\0" in name:
            raise ValueError(f"line {number} names {name!r}, which is not a file of the folder")
        if name in digests:
            raise ValueError(f"line {number} names {name!r} again")
        digests[name] = found[2].decode()
    return digests


def list_files(folder: Path, *, besides: Collection[str] = ()) -> None:
    """List the files of a folder and of the folders in it, hidden ones left out.

    Args:
        folder: The folder. It gets the list, or a new one.
        besides: Names of further files in it that are left out: those that grow or have checksums of their own.

    Raises:
        OSError: A file can't be read, or the list can't be written.
    """
    digests = {name: digest_of_file(folder / name) for name in files_in(folder) if name not in besides}
    replace_file(folder / SUMS_FILE, format_sums(digests))


def files_in(folder: Path) -> list[str]:
    """Return the path of each file in a folder and the folders in it, without the list itself and hidden ones."""
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if (
            not path.is_dir()
            and name.as_posix() != SUMS_FILE
            and not any(p.startswith(".") for p in name.parts)
        ):
            found.append(name.as_posix())
    return found


@contextmanager
def relisted(folder: Path, names: Collection[str], raises: type[FrostlineError]) -> Iterator[None]:
    """Take files off the list of a folder, and list them again when the block, which writes them, ends without an error.

    After an error, files that are as before are listed again. A folder without a list stays without one. The folder is locked:
    another process that writes to it waits.

    Args:
        folder: The folder.
        names: Files that the block writes or deletes.
        raises: Class of the error if the list can't be read.

    Raises:
        FrostlineError: The list can't be read; of the class `raises`.
        OSError: The list can't be written.
    """
    with locked(folder, folder=True, wait=True):
        sums = read_sums(folder, raises)
        if sums is None:
            yield
            return
        others = {name: digest for name, digest in sums.items() if name not in names}
        _replace_list(folder, sums, others)
        try:
            yield
        except BaseException:
            with suppress(OSError):  # on a full disk, for example, nothing may have changed
                found = _digests(folder, names)
                unchanged = {name: digest for name, digest in found.items() if sums.get(name) == digest}
                _replace_list(folder, others, others | unchanged)
            raise
        _replace_list(folder, others, others | _digests(folder, names))


def _digests(folder: Path, names: Collection[str]) -> dict[str, str]:
    return {name: digest_of_file(folder / name) for name in names if (folder / name).is_file()}


def _replace_list(folder: Path, old: Digests, new: Digests) -> None:
    if new != old:
        replace_file(folder / SUMS_FILE, format_sums(new))


def read_sums(folder: Path, raises: type[FrostlineError]) -> dict[str, str] | None:
    """Return the digests that a folder lists; None if it lists none, as a folder of an earlier version.

    Raises:
        FrostlineError: The list can't be read; of the class `raises`.
    """
    file = folder / SUMS_FILE
    try:
        return parse_sums(read_regular(file, _LIMIT))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        problem = f"can't be read: {error.strerror or error}"
    except ValueError as error:
        problem = f"is not a list of checksums: {error}"
    raise raises(
        f"{file} {problem}. Restore the file from a copy; without it, changes of the other files are not noticed."
    )


def read_listed(
    folder: Path, name: str, *, raises: type[FrostlineError], remedy: str, limit: int | None = None
) -> bytes:
    """Return the bytes of a file, which must have the digest that the folder lists for it.

    Args:
        folder: Folder of the file.
        name: Path of the file within the folder.
        raises: Class of the errors.
        remedy: Sentence that says what to do if the file can't be used.
        limit: Largest size in bytes; None for any.

    Raises:
        FileNotFoundError: The file does not exist.
        FrostlineError: The file can't be read, was changed, or is missing in the list of a folder that has one; of the
            class `raises`.
    """
    sums = read_sums(folder, raises)
    while True:
        data = _read(folder / name, raises, remedy, limit)
        if sums is None:
            return data
        problem = problem_of(name, hashlib.sha256(data).hexdigest(), sums)
        if not problem:
            return data
        written = _wait_for_writer(folder)
        again = read_sums(folder, raises)
        if again == sums and not written:  # else another process has just replaced the file
            raise raises(f"{folder / name} {problem}. {remedy}")
        sums = again


def _wait_for_writer(folder: Path) -> bool:
    """Return whether another process was writing listed files of a folder; wait until it has ended, at most a minute."""
    end = time.monotonic() + _PATIENCE
    waited = False
    while time.monotonic() < end:
        try:
            with locked(folder, folder=True):
                return waited
        except LockHeldError:
            waited = True
            time.sleep(0.05)
        except OSError:  # such as of a folder that can't be opened
            return False
    return False


def problem_of(name: str, digest: str, sums: Digests) -> str:
    """Return how a file's digest contradicts a list, as a part of a sentence; empty if it does not."""
    if name not in sums:
        return f"is not listed in {SUMS_FILE}, so the command that wrote it was interrupted, or the file was added"
    if sums[name] != digest:
        return f"was changed: its SHA-256 is {digest}, and {SUMS_FILE} lists {sums[name]}"
    return ""


def digest_of_file(path: Path, limit: int | None = None) -> str:
    """Return the SHA-256 of a file in hexadecimal.

    Raises:
        OSError: The file can't be read, or is larger than `limit`.
    """
    digest = hashlib.sha256()
    with open(open_regular(path), "rb", buffering=0) as file:  # noqa: PTH123  # a descriptor
        check_size(os.fstat(file.fileno()), limit, path)
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _read(path: Path, raises: type[FrostlineError], remedy: str, limit: int | None) -> bytes:
    try:
        return read_regular(path, limit)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise raises(f"{path} can't be read: {error.strerror or error}. {remedy}") from error


def _line(name: bytes, digest: str) -> bytes:
    escaped = re.sub(rb"[\\\n\r]", lambda byte: _ESCAPES[byte[0]], name)
    return (b"\\" if escaped != name else b"") + digest.encode() + b"  " + escaped + b"\n"
