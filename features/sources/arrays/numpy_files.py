"""NumPy files of images: ``.npy`` and ``.npz``."""

import io
import os
import struct
import tokenize
import warnings
import zipfile
import zlib
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from frostline.errors import one_line
from frostline.features.errors import SourceError
from frostline.features.sources.arrays.encoding import check_images
from frostline.features.sources.arrays.parts import (
    ArrayFile,
    LoadedPixels,
    NamedArray,
    Part,
    StoredPixels,
    array_file,
    pair,
)
from frostline.features.sources.stats import stat_fields
from frostline.splits import Split
from frostline.system.files import open_regular

_LENGTHS: Final = {(1, 0): struct.Struct("<H"), (2, 0): struct.Struct("<I"), (3, 0): struct.Struct("<I")}
"""How the length of a header is written, by the version of the format."""

_LONGEST: Final = 10_000  # bytes of a header that NumPy reads

MAX_LOADED: Final = 8 << 30
"""Most bytes of an array that is read into memory as a whole."""

ERRORS = (
    *(ValueError, EOFError, OverflowError, SyntaxError, RecursionError, tokenize.TokenError),
    *(zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error),
)
"""Exceptions that NumPy and the zip reader raise for damaged files."""


def open_npy(path: str) -> ArrayFile:
    """Open a ``.npy`` file of images, which are read in place.

    Raises:
        OSError: The file can't be read.
        SourceError: The file holds something else.
    """
    with open(open_regular(path), "rb") as stream:  # noqa: PTH123  # a descriptor
        status = os.fstat(stream.fileno())
        shape, fortran, dtype = read_header(stream, path)
        offset = stream.tell()
    check_images(shape, dtype, path)
    if fortran:
        raise SourceError(f"{path}: the array is in Fortran order; save numpy.ascontiguousarray of it")
    if status.st_size < offset + int(np.prod(shape, dtype=object)):
        raise SourceError(
            f"{path}: the file ends within its {shape[0]:,} images; it is not complete. Restore it"
        )
    part = Part("", StoredPixels(shape, offset), [""] * shape[0], Split.NONE)
    return array_file(path, stat_fields(status), [part], open_npy)


def open_npz(path: str, label: str | None = None) -> ArrayFile:
    """Open a ``.npz`` file of images and labels, which are read into memory.

    Args:
        path: Path of the file.
        label: Name of the array with the labels; see `parts.pair`.

    Raises:
        OSError: The file can't be read.
        SourceError: The file holds something else, or more than `MAX_LOADED` bytes.
    """
    with open(open_regular(path), "rb") as stream:  # noqa: PTH123  # a descriptor
        status = os.fstat(stream.fileno())
        try:
            with zipfile.ZipFile(stream) as archive:
                names = [name for name in archive.namelist() if name.endswith(".npy")]
                arrays = {name.removesuffix(".npy"): _member(archive, name, path) for name in names}
                parts, remarks = pair(arrays, label, path)
        except SourceError:
            raise
        except ERRORS as error:
            raise SourceError(
                f"{path}: not a readable .npz file: {one_line(error)}. Restore it, if it is not complete"
            ) from error
    return array_file(path, stat_fields(status), parts, partial(open_npz, label=label), remarks)


def _member(archive: zipfile.ZipFile, name: str, path: str) -> NamedArray:
    with archive.open(name) as stream:
        shape, _, dtype = read_header(stream, f"{path}, its array {name.removesuffix('.npy')!r}")

    def values() -> NDArray[Any]:
        if dtype.hasobject:
            raise SourceError(
                f"{path}: its array {name.removesuffix('.npy')!r} holds Python objects, which are a pickle and never"
                " loaded; expected integers or texts. Save it as one, such as array.astype(str)"
            )
        size = archive.getinfo(name).file_size
        if size > MAX_LOADED:
            raise SourceError(
                f"{path}: its array {name.removesuffix('.npy')!r} has {size:,} bytes, and a compressed array is read into"
                f" memory; expected at most {MAX_LOADED:,}. Save the images as .npy, which is read in place"
            )
        if int(np.prod(shape, dtype=object)) * dtype.itemsize > size:
            raise SourceError(
                f"{path}: its array {name.removesuffix('.npy')!r} is not complete. Restore the file"
            )
        with archive.open(name) as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return npy.read_array(stream, allow_pickle=False)

    return NamedArray(shape, dtype, lambda: LoadedPixels(values()), values)


def read_header(stream: Any, where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of an array: its shape, whether it is in Fortran order, and the type of its elements.

    Args:
        stream: File at the start of the array; it is left at the first element.
        where: Place named in messages.

    Raises:
        SourceError: The header is not valid.
    """
    try:
        version = npy.read_magic(stream)
        kind = _LENGTHS[version]
        size = stream.read(kind.size)
        length = kind.unpack(size)[0] if len(size) == kind.size else 0
        if length > _LONGEST:
            raise ValueError(f"its header claims {length:,} bytes; expected at most {_LONGEST:,}")
        header = io.BytesIO(size + stream.read(length))
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that Python 2 wrote the file
            shape, fortran, dtype = read(header)
        if any(isinstance(side, bool) for side in shape):
            raise ValueError(f"its shape is {shape}")
    except (*ERRORS, KeyError) as error:
        raise SourceError(
            f"{where}: not a readable NumPy array: {one_line(error)}. Restore it, if it is not complete"
        ) from error
    return shape, fortran, dtype
