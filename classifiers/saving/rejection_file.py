"""The reference for the rejection of images of unknown classes, as a file of a run."""

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from frostline.classifiers.errors import HeadFormatError
from frostline.classifiers.fitting.rejection import MOST_DISTANCES, MOST_ROWS, Rejection
from frostline.classifiers.saving.head_files import read_head_record
from frostline.files.checksums import read_listed
from frostline.system.atomic import replace_file

REJECTION_FILE: Final = "rejection.safetensors"

_MAX_BYTES = 1 << 28
_REMEDY = "Restore the file from a copy, or train the head again."
_NAMES = ("centre", "rows", "distances")
_ROUNDING = 0.01  # of the length of a vector, 1 or 0, in float16


def save_rejection(rejection: Rejection, folder: Path) -> None:
    """Write the reference into a folder."""
    replace_file(folder / REJECTION_FILE, save({name: getattr(rejection, name) for name in _NAMES}))


def load_rejection(folder: Path) -> Rejection | None:
    """Read the reference of a run; return None if the run has none.

    Raises:
        HeadFormatError: The file can't be read, was changed, or does not fit the head of the run.
    """
    file = folder / REJECTION_FILE
    try:
        data = read_listed(folder, REJECTION_FILE, raises=HeadFormatError, remedy=_REMEDY, limit=_MAX_BYTES)
    except FileNotFoundError:
        return None
    try:
        arrays = load(data)
    except (SafetensorError, LookupError, ValueError, TypeError) as error:  # an unknown dtype is a KeyError
        raise HeadFormatError(f"{file} can't be read: {error}. {_REMEDY}") from error
    problem = next(chain(_misshapen(arrays, read_head_record(folder).dim), _misvalued(arrays)), "")
    if problem:
        raise HeadFormatError(f"{file}, {problem}. {_REMEDY}")
    return Rejection(*(arrays[name] for name in _NAMES))


def _misshapen(arrays: Mapping[str, NDArray[Any]], dim: int) -> Iterator[str]:
    """Yield the arrays that are missing, or of another type or shape, whose values can't be checked."""
    for name in _NAMES:
        if name not in arrays:
            yield f"array {name!r} is missing"
            return
    centre, rows, distances = (arrays[name] for name in _NAMES)
    if centre.dtype != np.float32 or centre.shape != (dim,):
        yield f"centre: got {centre.dtype} of shape {centre.shape}, expected float32 of shape ({dim},)"
    if rows.dtype != np.float16 or rows.shape[1:] != (dim,) or not 1 <= len(rows) <= MOST_ROWS:
        yield f"rows: got {rows.dtype} of shape {rows.shape}, expected float16 of shape (1 to {MOST_ROWS}, {dim})"
    if distances.dtype != np.float64 or distances.ndim != 1 or distances.size > MOST_DISTANCES:
        yield (
            f"distances: got {distances.dtype} of shape {distances.shape}, expected float64 of shape (0 to"
            f" {MOST_DISTANCES},)"
        )


def _misvalued(arrays: Mapping[str, NDArray[Any]]) -> Iterator[str]:
    """Yield what no training writes: rows of another length than 1 or 0, distances out of range or order."""
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(arrays["rows"].astype(np.float32) + arrays["centre"], axis=1)
        wrong = np.flatnonzero(~((np.abs(lengths - 1) <= _ROUNDING) | (lengths <= _ROUNDING)))
    if len(wrong):
        yield f"rows, row {wrong[0]}: got a vector of length {lengths[wrong[0]]:g}, expected 1"
    distances = arrays["distances"]
    if not ((distances >= -_ROUNDING) & (distances <= 2 + _ROUNDING)).all() or (np.diff(distances) < 0).any():
        yield "distances: expected numbers from 0 to 2 in ascending order"
