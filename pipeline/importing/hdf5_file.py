"""HDF5 files of vectors: contiguous datasets are read in place, others are copied block by block."""

import math
import os
from dataclasses import replace
from functools import partial
from typing import Any, BinaryIO, Final

import h5py
from numpy.typing import NDArray

from frostline.errors import one_line
from frostline.features.cache.imported.vectors import StoredVectors, Vectors, sliced
from frostline.features.errors import VectorsError
from frostline.features.sources.arrays.hdf5 import datasets_in
from frostline.pipeline.importing.importers import FoundVectors, Importer, Wanted
from frostline.pipeline.importing.named_arrays import NamedArray, found_arrays
from frostline.pipeline.importing.numpy_files import NO_ROOM, opened

_MAX_CHUNK: Final = 1 << 28  # bytes of a chunk, which the library reads whole
_MAX_VALUES: Final = 1 << 30
_MOST_PACKED: Final = 1100  # as in zip archives
_BUILT_IN: Final = {"1", "2", "3", "4", "5", "6", "32000"}  # filters of the library itself, and lzf


def _read(wanted: Wanted) -> FoundVectors:
    stream = opened(wanted)
    try:
        file = wanted.stack.enter_context(h5py.File(stream, "r"))
        _check_kind(file, wanted.path)
        datasets, elsewhere = datasets_in(file, wanted.path, VectorsError)
        arrays = {name: _named(name, dataset, wanted, stream) for name, dataset in datasets.items()}
        found = found_arrays(wanted, arrays)
        return replace(found, unused=(*found.unused, *elsewhere))
    except VectorsError:
        raise
    except OSError as error:
        if error.errno in NO_ROOM:
            raise
        raise VectorsError(f"{wanted.path}: not a readable HDF5 file: {one_line(error)}") from error
    except (ValueError, RuntimeError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise VectorsError(f"{wanted.path}: not a readable HDF5 file: {one_line(error)}") from error


def _check_kind(file: h5py.File, path: str) -> None:
    if "format" in file.attrs and "frostline-cache" in str(file.attrs["format"]):
        raise VectorsError(f"{path}: is a cache of features already; it needs no import")


def _named(name: str, dataset: h5py.Dataset, wanted: Wanted, stream: BinaryIO) -> NamedArray:
    where = f"{wanted.path}, its array {name!r}"
    return NamedArray(
        dataset.shape,
        dataset.dtype.name,
        partial(_vectors, where, dataset, wanted, stream),
        partial(_values, where, dataset),
    )


def _check_stored(where: str, dataset: h5py.Dataset) -> None:
    """Raise `VectorsError` if reading the dataset could take far more memory or time than its file has bytes."""
    size = math.prod(dataset.shape) * dataset.dtype.itemsize
    held = dataset.id.get_storage_size()
    if size > _MOST_PACKED * max(1, held):
        raise VectorsError(
            f"{where}: claims {size:,} bytes of numbers, and holds {held:,}; it is not complete"
        )
    if dataset.chunks is not None:
        chunk = math.prod(dataset.chunks) * dataset.dtype.itemsize
        if chunk > _MAX_CHUNK:
            raise VectorsError(
                f"{where}: has chunks of {chunk:,} bytes, which are read whole; expected at most {_MAX_CHUNK:,}. Write it"
                " with smaller chunks, or without"
            )
        plist = dataset.id.get_create_plist()
        for index in range(plist.get_nfilters()):
            if str(plist.get_filter(index)[0]) not in _BUILT_IN:
                raise VectorsError(
                    f"{where}: is packed with the filter {plist.get_filter(index)[3]!r}, which is no part of HDF5; write it"
                    " with gzip, lzf or without compression"
                )


def _values(where: str, dataset: h5py.Dataset) -> NDArray[Any]:
    # In a damaged file, the library may look for a text of variable length for ever.
    if dataset.dtype.kind == "O":
        raise VectorsError(
            f"{where}: holds texts of variable length; expected integers, or texts of one length, as"
            " h5py.string_dtype(length=20) writes them"
        )
    _check_stored(where, dataset)
    if math.prod(dataset.shape) * dataset.dtype.itemsize > _MAX_VALUES:
        raise VectorsError(f"{where}: has {math.prod(dataset.shape):,} elements, expected one value per row")
    values: NDArray[Any] = dataset[:]
    return values


def _vectors(where: str, dataset: h5py.Dataset, wanted: Wanted, stream: BinaryIO) -> Vectors:
    _check_stored(where, dataset)
    rows, width = dataset.shape
    offset = dataset.id.get_offset() if dataset.chunks is None else None
    if offset is not None and dataset.dtype.kind != "b":
        if not 0 < offset <= os.fstat(stream.fileno()).st_size - rows * width * dataset.dtype.itemsize:
            raise VectorsError(f"{where}: lies beyond the end of the file; it is not complete")
        return StoredVectors(stream, offset, (rows, width), dataset.dtype)
    return wanted.scratch.copy(sliced(dataset, width), where, rows=rows)


HDF5 = Importer("datasets of HDF5", (".h5", ".hdf5", ".hdf"), _read)
