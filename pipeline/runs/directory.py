"""Run directories: naming, atomic writing, and validated reading of their JSON files."""

import contextlib
import itertools
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from frostline.files.checksums import list_files, relisted
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
from frostline.system.truncation import check_sizes

FEATURES = "features.h5"
"""File in a fine-tuned run that caches the features of its own backbone."""

FEW_SHOT = "few-shot"
LEARNING_CURVE = "learning-curve"

_WORK = re.compile(r"tuning|lock|(search\.)?[0-9a-f]{16}\.jsonl|([a-z0-9_]{8}|\d+-\d+)\.partial")
"""Names of files beside a run, after ``.RUN.``, that are needed only until it is finished."""


def default_run_path(cache: Path, head: str, folder: str | Path = "runs") -> Path:
    """Return the path of the first run of a head on a cache, ``FOLDER/CACHE-HEAD``."""
    return Path(folder) / f"{cache.stem}-{head.rpartition(':')[2]}"


def numbered(path: Path) -> Iterator[Path]:
    """Yield ``PATH``, then ``PATH-2``, ``PATH-3`` and so on."""
    yield path
    yield from (path.with_name(f"{path.name}-{number}") for number in itertools.count(2))


def new_run_path(path: Path) -> Path:
    """Return the first of the paths of `numbered` that is unused. What killed processes left beside others is deleted."""
    for each in numbered(path):
        sweep_runs([each])
        if not os.path.lexists(each):
            return each
    raise AssertionError


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

    The digests of its files are listed in ``SHA256SUMS``.

    Raises:
        RunError: The path exists already.
        TruncatedError: A cache that was read was truncated meanwhile.
    """
    check_new(path)
    try:
        with write_folder(path) as folder:
            yield folder
            check_sizes()
            list_files(folder)
    except FileExistsError:
        check_new(path)
        raise


def update_run(path: Path, files: Mapping[str, bytes], *, outdated: Iterable[str] = ()) -> None:
    """Write files into a finished run, one process at a time; see `frostline.system.atomic.replace_files`.

    Args:
        path: Run directory.
        files: Content of each file by name. The last one says that all are there.
        outdated: Names of files that belong to the earlier content, and are deleted.

    Raises:
        RunError: The list of the run's files can't be read.
        TruncatedError: A cache that was read was truncated meanwhile.
        OSError: A file can't be written.
    """
    outdated = [*outdated]
    check_sizes()
    with rewriting(path, [*files, *outdated]):
        replace_files(
            {path / name: data for name, data in files.items()}, outdated=[path / name for name in outdated]
        )


@contextmanager
def rewriting(run: Path, names: Collection[str]) -> Iterator[None]:
    """Lock a finished run while the block writes files into it, and list their digests when it ends without an error.

    Args:
        run: Run directory.
        names: Files that the block writes or deletes.

    Raises:
        RunError: The list of the run's files can't be read.
    """
    with relisted(run, names, RunError):
        yield
