"""Run directories: naming, atomic writing, and validated reading of their JSON files."""

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from frostline.files.checksums import list_files, relisted
from frostline.pipeline.errors import RunError
from frostline.system.atomic import write_folder

FEATURES = "features.h5"
"""File in a fine-tuned run that caches the features of its own backbone."""

FEW_SHOT = "few-shot"
LEARNING_CURVE = "learning-curve"


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

    The digests of its files are listed in ``SHA256SUMS``.

    Raises:
        RunError: The path exists already.
    """
    check_new(path)
    with write_folder(path) as folder:
        yield folder
        list_files(folder)


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
