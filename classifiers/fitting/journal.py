"""Resumable computations: independent pieces that run in parallel and are recorded in a journal."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, nullcontext
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import numpy as np
from joblib import Parallel, delayed, parallel_config
from numpy.typing import NDArray

from frostline.classifiers.errors import HeadError, ProcessError
from frostline.interrupts import children_ignore_interrupts, end_after
from frostline.system.atomic import AppendedFile
from frostline.system.locks import LockHeldError

Result = dict[str, Any]

_LIBRARIES = ("frostline", "numpy", "scipy", "scikit-learn", "torch")


def digest_of(document: Mapping[str, Any], rows: Iterable[NDArray[np.int64]]) -> str:
    """Return the SHA-256 digest of a JSON document, arrays of integers, and the versions of the libraries."""
    whole = {**document, "versions": {name: version(name) for name in _LIBRARIES}}
    digest = hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode())
    for each in rows:
        digest.update(np.asarray(each, np.int64).tobytes())
    return digest.hexdigest()


def journal_path(stem: Path | None, digest: str) -> Path | None:
    """Return the journal file of a computation with this digest; None without a stem."""
    return None if stem is None else stem.with_name(f"{stem.name}.{digest[:16]}.jsonl")


def in_parallel(
    function: Callable[..., Any], calls: Iterable[tuple[Any, ...]], jobs: int | None
) -> Iterable[Any]:
    """Run calls in parallel, and return an iterable of their results in order.

    Args:
        function: Function to call.
        calls: Positional arguments of each call.
        jobs: Number of processes; None for the setting of joblib's `parallel_config`.

    Raises:
        ProcessError: A process was killed. It is raised by the iteration.
    """
    with parallel_config(n_jobs=jobs) if jobs is not None else nullcontext(), children_ignore_interrupts():
        worker = delayed(partial(_in_worker, os.getpid(), function))
        results: Iterable[Any] = Parallel(return_as="generator")(worker(*call) for call in calls)
    return _explained(results)


def _in_worker(parent: int, function: Callable[..., Any], *call: Any) -> Any:
    end_after(parent)
    return function(*call)


def _explained(results: Iterable[Any]) -> Iterator[Any]:
    try:
        yield from results
    except BrokenProcessPool as error:
        reason = (
            "another program truncated a file that it was reading, or /dev/shm is full"
            if "SIGBUS" in str(error)
            else "the memory ran out"
        )
        raise ProcessError(
            f"a process was killed, most likely because {reason}. Finished pieces are kept: run the same command"
            " again, with a lower --jobs"
        ) from error


class Journal:
    """Journal of finished pieces on disk, one JSON line per piece.

    Each line has a digest. A line that was truncated or changed is dropped with those after it, and its piece is
    computed again.

    Args:
        path: File of the journal; None to disable it.

    Attributes:
        resumed: Number of requested pieces that the journal already contained.
    """

    def __init__(self, path: Path | None) -> None:
        self.resumed = 0
        self._path = path
        self._known: dict[str, Result] = {}
        self._open = ExitStack()

    def __enter__(self) -> Self:
        if self._path is not None:
            try:
                self._file = self._open.enter_context(AppendedFile.open(self._path))
            except LockHeldError as error:
                raise HeadError(
                    f"{self._path}: {error.who} is computing the same; wait until it is done"
                ) from None
            self._file.cut(self._read())
        return self

    def __exit__(self, *_error: object) -> None:
        self._open.close()

    def complete(
        self,
        names: Sequence[str],
        compute: Callable[[list[int]], Iterable[tuple[int, Result]]],
        progress: Callable[[int], None],
    ) -> list[Result]:
        """Compute the missing pieces, and return one result per name, in order.

        Args:
            names: Identifier of each piece.
            compute: Function that takes the indices of missing pieces, and yields pairs of index and result in any
                order.
            progress: Called with the number of pieces just finished.
        """
        results = {index: self._known[name] for index, name in enumerate(names) if name in self._known}
        self.resumed += len(results)
        progress(len(results))
        todo = [index for index in range(len(names)) if index not in results]
        for index, result in compute(todo) if todo else ():
            self._add(names[index], result)
            results[index] = result
            progress(1)
        return [results[index] for index in range(len(names))]

    def _read(self) -> int:
        """Read complete lines, and return the position of their end in bytes."""
        end = 0
        for line in self._file.read().splitlines(keepends=True):
            found = _parsed(line)
            if found is None:
                break
            piece, result = found
            self._known[piece] = result
            end += len(line)
        return end

    def _add(self, name: str, result: Result) -> None:
        if self._path is not None:
            self._file.append(_line(name, result))


def _line(piece: str, result: Result) -> bytes:
    """Return the line of a finished piece, without its end."""
    entry = {"piece": piece, "result": result}
    return json.dumps({**entry, "digest": _digest(entry)}).encode()


def _parsed(line: bytes) -> tuple[str, Result] | None:
    """Return the piece and the result of a line; None for a line that `_line` did not return."""
    try:
        entry = json.loads(line)
        digest = entry.pop("digest")
        piece, result = entry["piece"], entry["result"]
        whole = line.endswith(b"\n") and digest == _digest(entry)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    return (piece, result) if whole else None


def _digest(entry: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(entry).encode(), digest_size=8, usedforsecurity=False).hexdigest()
