"""Long computations made of pieces: run in parallel, kept in a journal, gone on with after a kill."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import numpy as np
from joblib import Parallel, delayed, parallel_config
from numpy.typing import NDArray

Result = dict[str, Any]

_LIBRARIES = ("frostline", "numpy", "scipy", "scikit-learn", "torch")


def digest_of(document: Mapping[str, Any], rows: Iterable[NDArray[np.int64]]) -> str:
    """SHA-256 of what results depend on: JSON, arrays of integers, and the libraries' versions."""
    whole = {**document, "versions": {name: version(name) for name in _LIBRARIES}}
    digest = hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode())
    for each in rows:
        digest.update(np.asarray(each, np.int64).tobytes())
    return digest.hexdigest()


def journal_path(stem: Path | None, digest: str) -> Path | None:
    """Where the finished pieces of a computation with this digest are written; None without a stem."""
    return None if stem is None else stem.with_name(f"{stem.name}.{digest[:16]}.jsonl")


def in_parallel(
    function: Callable[..., Any], calls: Iterable[tuple[Any, ...]], jobs: int | None
) -> Iterable[Any]:
    """Results of the calls, in order, as they come; jobs None is what joblib's `parallel_config` says."""
    with parallel_config(n_jobs=jobs) if jobs is not None else nullcontext():
        results: Iterable[Any] = Parallel(return_as="generator")(delayed(function)(*call) for call in calls)
        return results


class Journal:
    """Finished pieces on disk, one JSON line each; a line that was cut off by a kill is dropped.

    Args:
        path: Its file; None keeps nothing.

    Attributes:
        resumed: Pieces that were asked for and were there.
    """

    def __init__(self, path: Path | None) -> None:
        self.resumed = 0
        self._path = path
        self._known: dict[str, Result] = {}

    def __enter__(self) -> Self:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a+b")
            self._file.truncate(self._read())
        return self

    def __exit__(self, *_error: object) -> None:
        if self._path is not None:
            self._file.close()

    def complete(
        self,
        names: Sequence[str],
        compute: Callable[[list[int]], Iterable[tuple[int, Result]]],
        progress: Callable[[int], None],
    ) -> list[Result]:
        """One result per name, in order.

        Args:
            names: What identifies each piece.
            compute: Gets the places of those that are missing; gives each place with its result, in any order.
            progress: Called with the number of pieces just finished.
        """
        results = {place: self._known[name] for place, name in enumerate(names) if name in self._known}
        self.resumed += len(results)
        progress(len(results))
        todo = [place for place in range(len(names)) if place not in results]
        for place, result in compute(todo) if todo else ():
            self._add(names[place], result)
            results[place] = result
            progress(1)
        return [results[place] for place in range(len(names))]

    def _read(self) -> int:
        """Take in whole lines; return where they end."""
        end = 0
        self._file.seek(0)
        for line in self._file:
            try:
                entry = json.loads(line)
            except ValueError:
                break
            if not line.endswith(b"\n"):
                break
            self._known[entry["piece"]] = entry["result"]
            end += len(line)
        return end

    def _add(self, name: str, result: Result) -> None:
        if self._path is not None:
            self._file.write(json.dumps({"piece": name, "result": result}).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
