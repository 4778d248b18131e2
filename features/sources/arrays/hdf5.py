"""HDF5 files of images."""

import os
import threading
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from frostline.features.errors import SourceError
from frostline.features.sources.arrays.parts import (
    ArrayFile,
    NamedArray,
    Pixels,
    StoredPixels,
    array_file,
    pair,
)
from frostline.features.sources.containers.blocks import Blocks
from frostline.features.sources.stats import stat_fields
from frostline.system.files import open_regular

_READING = threading.Lock()  # h5py reads for one thread at a time


@dataclass(frozen=True, eq=False)
class ChunkedPixels:
    """Images in a dataset that is stored in chunks, which are decoded as a whole.

    Attributes:
        shape: Shape of the array.
        path: Path of the file.
        name: Name of the dataset.
        rows: Images per chunk.
        blocks: The last chunks.
    """

    shape: tuple[int, ...]
    path: str
    name: str
    rows: int
    blocks: Blocks = field(default_factory=Blocks)

    def row(self, fd: int, index: int) -> NDArray[np.uint8]:  # noqa: ARG002  # HDF5 opens the file itself
        """Return one image."""
        block = index // self.rows
        pixels: NDArray[np.uint8] = self.blocks.get(block, partial(self._load, block))[index % self.rows]
        return pixels

    def _load(self, block: int) -> NDArray[np.uint8]:
        first = block * self.rows
        with _READING, h5py.File(self.path, "r") as file:
            found: NDArray[np.uint8] = file[self.name][first : first + self.rows]
        return found


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
            with _READING, h5py.File(stream, "r") as file:
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
            partial(_pixels, path, name, item),
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


def _pixels(path: str, name: str, dataset: h5py.Dataset) -> Pixels:
    if dataset.chunks is None and (offset := dataset.id.get_offset()) is not None:
        return StoredPixels(dataset.shape, offset)
    return ChunkedPixels(dataset.shape, path, name, dataset.chunks[0] if dataset.chunks else 1)
