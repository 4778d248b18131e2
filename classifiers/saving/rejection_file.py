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
from frostline.classifiers.fitting.rejection import RANK, Rejection
from frostline.classifiers.saving.head_files import read_head_record
from frostline.files.checksums import read_listed
from frostline.system.atomic import replace_file

REJECTION_FILE: Final = "rejection.safetensors"

_MAX_BYTES = 1 << 32
_REMEDY = "Restore the file from a copy, or train the head again."
_NAMES = ("components", "distances", "means", "noise", "variances")
_TYPES: Final[Mapping[str, Any]] = {"components": np.float32, "means": np.float32}


def save_rejection(rejection: Rejection, folder: Path) -> None:
    """Write the reference into a folder."""
    arrays = {
        "means": rejection.means,
        "components": rejection.components,
        "variances": rejection.variances,
        "noise": np.array([rejection.noise]),
        "distances": rejection.distances,
    }
    replace_file(folder / REJECTION_FILE, save(arrays))


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
    record = read_head_record(folder)
    problem = next(chain(_misshapen(arrays, record.dim, len(record.classes)), _misvalued(arrays)), "")
    if problem:
        raise HeadFormatError(f"{file}, {problem}. {_REMEDY}")
    return Rejection(
        arrays["means"],
        arrays["components"],
        arrays["variances"],
        float(arrays["noise"][0]),
        arrays["distances"],
    )


def _misshapen(arrays: Mapping[str, NDArray[Any]], dim: int, classes: int) -> Iterator[str]:
    """Yield the arrays that are missing, or of another type or shape, whose values can't be checked."""
    for name in _NAMES:
        if name not in arrays:
            yield f"array {name!r} is missing"
            return
    expected = {
        "means": (min(max(len(arrays["means"]), 1), classes), dim),
        "components": (min(len(arrays["variances"]), RANK), dim),
        "variances": (min(arrays["variances"].size, RANK),),
        "noise": (1,),
        "distances": (arrays["distances"].size,),
    }
    for name, shape in expected.items():
        array, dtype = arrays[name], np.dtype(_TYPES.get(name, np.float64))
        if array.dtype != dtype or array.shape != shape:
            yield f"{name}: got {array.dtype} of shape {array.shape}, expected {dtype} of shape {shape}"


def _misvalued(arrays: Mapping[str, NDArray[Any]]) -> Iterator[str]:
    """Yield what no training writes: numbers that are not finite, variances below the noise, distances out of order."""
    for name in _NAMES:
        if not np.isfinite(arrays[name]).all():
            yield f"{name}: got numbers that are not finite"
            return
    if not arrays["noise"][0] > 0 or (arrays["variances"] < arrays["noise"][0]).any():
        yield f"noise: got {arrays['noise'][0]}, expected a positive number up to every one of the variances"
    distances = arrays["distances"]
    if (distances < 0).any() or (np.diff(distances) < 0).any():
        yield "distances: expected numbers from 0 in ascending order"
