"""HDF5 files of images."""

import os
from functools import partial
from typing import Any

import h5py
from numpy.typing import NDArray

from frostline.features.errors import SourceError
from frostline.features.sources.arrays.numpy_files import MAX_LOADED
from frostline.features.sources.arrays.parts import (
    ArrayFile,
    LoadedPixels,
    NamedArray,
    Pixels,
    StoredPixels,
    array_file,
    pair,
)
from frostline.features.sources.stats import stat_fields
from frostline.system.files import open_regular


def open_hdf5(path: str, label: str | None = None) -> ArrayFile:
    """Open an HDF5 file of images and labels.

    Args:
        path: Path of the file.
        label: Name of the dataset with the labels; see `parts.pair`.

    Raises:
        OSError: The file can't be read.
        SourceError: The file holds something else.
    """
    with open(open_regular(path), "rb") as stream:  # noqa: PTH123  # a descriptor
        status = os.fstat(stream.fileno())
        try:
            with h5py.File(stream, "r") as file:
                _check_kind(file, path)
                arrays: dict[str, NamedArray] = {}
                file.visititems(lambda name, item: _collect(arrays, path, name, item))
                parts, remarks = pair(arrays, label, path)
        except SourceError:
            raise
        except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
            raise SourceError(f"{path}: not a readable HDF5 file: {error}") from error
    return array_file(path, stat_fields(status), parts, partial(open_hdf5, label=label), remarks)


def _check_kind(file: h5py.File, path: str) -> None:
    if "format" in file.attrs:
        raise SourceError(f"{path}: is a cache of features; expected images")


def _collect(arrays: dict[str, NamedArray], path: str, name: str, item: Any) -> None:
    # Links to other files are not visited; a dataset may still lie in one.
    if isinstance(item, h5py.Dataset) and not item.is_virtual and not item.external and item.shape:
        arrays[name] = NamedArray(
            item.shape,
            item.dtype,
            partial(_pixels, f"{path}, its array {name!r}", item),
            partial(_values, f"{path}, its array {name!r}", item),
        )


def _values(where: str, dataset: h5py.Dataset) -> NDArray[Any]:
    # In a damaged file, the library may look for a text of variable length for ever.
    if dataset.dtype.kind == "O":
        raise SourceError(
            f"{where}: holds texts of variable length; expected integers, or texts of one length, as"
            " h5py.string_dtype(length=20) writes them"
        )
    values: NDArray[Any] = dataset[:]
    return values


def _pixels(where: str, dataset: h5py.Dataset) -> Pixels:
    if dataset.chunks is None and (offset := dataset.id.get_offset()) is not None:
        return StoredPixels(dataset.shape, offset)
    if dataset.size > MAX_LOADED:
        raise SourceError(
            f"{where}: has {dataset.size:,} bytes in chunks, which are read into memory; expected at most {MAX_LOADED:,}."
            " Write it without chunks, which is read in place"
        )
    return LoadedPixels(dataset[:])
