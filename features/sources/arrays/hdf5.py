"""HDF5 files of images."""

import os
from collections.abc import Collection
from functools import partial
from typing import Any

import h5py
from numpy.typing import NDArray

from frostline.errors import one_line
from frostline.features.errors import FeaturesError, SourceError
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
from frostline.features.sources.labels import listed
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
                datasets, elsewhere = datasets_in(file, path, SourceError)
                parts, remarks = pair(
                    {name: _named(path, name, dataset) for name, dataset in datasets.items()}, label, path
                )
                if elsewhere:
                    remarks.append(_elsewhere(elsewhere))
        except SourceError:
            raise
        except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
            raise SourceError(
                f"{path}: not a readable HDF5 file: {one_line(error)}. Restore it, if it is not complete"
            ) from error
    return array_file(path, stat_fields(status), parts, partial(open_hdf5, label=label), remarks)


def _check_kind(file: h5py.File, path: str) -> None:
    if "format" in file.attrs:
        raise SourceError(f"{path}: is a cache of features; expected images")


def datasets_in(
    file: h5py.File, path: str, error: type[FeaturesError]
) -> tuple[dict[str, h5py.Dataset], list[str]]:
    """Return the arrays whose numbers lie in a file, by name; and the names of those that lie in other files.

    Other files are never opened: a file of a stranger could name any of this machine.

    Args:
        file: The file.
        path: Its path, for messages.
        error: Class of the error that is raised if all arrays lie in other files.
    """
    found: dict[str, h5py.Dataset] = {}
    elsewhere: list[str] = []

    def collect(name: str, item: Any) -> None:
        if isinstance(item, h5py.Group):
            elsewhere.extend(_links(item, f"{name}/"))
        elif isinstance(item, h5py.Dataset) and item.shape:
            if item.is_virtual or item.external:
                elsewhere.append(name)
            else:
                found[name] = item

    elsewhere += _links(file, "")
    file.visititems(collect)
    if elsewhere and not found:
        raise error(f"{path}: {_elsewhere(elsewhere)}")
    return found, elsewhere


def _elsewhere(names: Collection[str]) -> str:
    """Return a sentence on arrays that lie in other files."""
    return f"not read, because the numbers lie in other files: {listed(names)}; copy them into this file to use them"


def _links(group: h5py.Group, prefix: str) -> list[str]:
    return [
        f"{prefix}{name}" for name in group if isinstance(group.get(name, getlink=True), h5py.ExternalLink)
    ]


def _named(path: str, name: str, dataset: h5py.Dataset) -> NamedArray:
    where = f"{path}, its array {name!r}"
    return NamedArray(
        dataset.shape, dataset.dtype, partial(_pixels, where, dataset), partial(_values, where, dataset)
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
