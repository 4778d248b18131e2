"""CIFAR-10 and CIFAR-100 as their authors publish them: folders and archives of batches.

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009, and the description of the files
at https://www.cs.toronto.edu/~kriz/cifar.html.
"""

import gzip
import io
import os
import pickle
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from frostline.errors import one_line
from frostline.features.errors import SourceError
from frostline.features.sources.arrays.parts import ArrayFile, LoadedPixels, Part, array_file
from frostline.features.sources.stats import file_stat, stat_fields
from frostline.splits import Split
from frostline.system.files import open_regular, read_regular

_SHAPE: Final = (3, 32, 32)
_PIXELS: Final = 3 * 32 * 32
_MOST: Final = 256 << 20  # bytes of a file, the largest of which has 160 MB

_Batch = tuple[NDArray[np.uint8], Sequence[int]]
"""(n, 3072) pixels and the number of each image's class."""


@dataclass(frozen=True)
class _Variant:
    """Form in which a data set is published.

    Attributes:
        train: Names of the files of training images.
        test: Name of the file of test images.
        names: Name of the file with the names of the classes.
        batch: Function that returns the images and classes of a file.
        classes: Function that returns the names of the classes.
    """

    train: tuple[str, ...]
    test: str
    names: str
    batch: Callable[[bytes], _Batch]
    classes: Callable[[bytes], Sequence[str]]

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files of images."""
        return (*self.train, self.test)


def _bytes(text: str, encoding: str) -> bytes:
    """Return bytes as Python 3 pickles them in the form of Python 2."""
    if encoding != "latin1":
        raise ValueError(f"got the encoding {encoding!r}, expected latin1")
    return text.encode("latin1")


_ARRAY = object()  # in place of the class, so that nothing makes an array of another shape


def _empty_array(kind: object, shape: object, code: object) -> NDArray[Any]:
    """Return the array that the state in a pickle then fills."""
    if kind is not _ARRAY or shape != (0,) or code != b"b":
        raise ValueError("it makes an array in another way than pickles do")
    return np.empty(0, np.int8)


def _dtype(code: object, *_flags: object) -> np.dtype[Any]:
    if code not in {"u1", "i8", b"u1", b"i8"}:
        raise ValueError(f"got an array of type {str(code)[:20]!r}, expected whole numbers")
    return np.dtype("u1" if code in {"u1", b"u1"} else "i8")


class _Arrays(pickle._Unpickler):  # noqa: SLF001  # its documented twin in C is not safe
    """Reader of pickled dictionaries of arrays and bytes, which calls nothing else.

    It is that in Python: the one in C takes memory for as many objects as a file numbers.
    """

    dispatch: ClassVar = {
        code: read
        for code, read in pickle._Unpickler.dispatch.items()  # noqa: SLF001
        if code not in {*pickle.BYTEARRAY8, *pickle.NEXT_BUFFER, *pickle.PERSID, *pickle.BINPERSID}
    }

    _ALLOWED: Final[Mapping[tuple[str, str], Any]] = {
        ("numpy.core.multiarray", "_reconstruct"): _empty_array,
        ("numpy._core.multiarray", "_reconstruct"): _empty_array,
        ("_codecs", "encode"): _bytes,
        ("numpy", "ndarray"): _ARRAY,
        ("numpy", "dtype"): _dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        """Return one of the functions that make arrays and bytes."""
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no array needs")
        return self._ALLOWED[module, name]


def _unpickled(data: bytes) -> dict[bytes, Any]:
    found = _Arrays(io.BytesIO(data), encoding="bytes").load()
    if not isinstance(found, dict):
        raise TypeError(f"expected a dictionary, got {type(found).__name__}")
    return found


def _pickled_batch(key: bytes, data: bytes) -> _Batch:
    found = _unpickled(data)
    return found[b"data"], found[key]


def _pickled_names(key: bytes, data: bytes) -> list[str]:
    return [name.decode() for name in _unpickled(data)[key]]


def _binary_batch(label_bytes: int, data: bytes) -> _Batch:
    rows = np.frombuffer(data, np.uint8).reshape(-1, label_bytes + _PIXELS)
    return rows[:, label_bytes:], rows[:, label_bytes - 1].tolist()


def _lines(data: bytes) -> list[str]:
    return data.decode().split()


_BATCHES: Final = tuple(f"data_batch_{number}" for number in range(1, 6))

_VARIANTS: Final = (
    _Variant(
        _BATCHES,
        "test_batch",
        "batches.meta",
        partial(_pickled_batch, b"labels"),
        partial(_pickled_names, b"label_names"),
    ),
    _Variant(
        ("train",),
        "test",
        "meta",
        partial(_pickled_batch, b"fine_labels"),
        partial(_pickled_names, b"fine_label_names"),
    ),
    _Variant(
        tuple(f"{name}.bin" for name in _BATCHES),
        "test_batch.bin",
        "batches.meta.txt",
        partial(_binary_batch, 1),
        _lines,
    ),
    _Variant(("train.bin",), "test.bin", "fine_label_names.txt", partial(_binary_batch, 2), _lines),
)

_ARCHIVE: Final = re.compile(r"cifar-10+-(python|binary)\.tar\.gz$")


def is_cifar_archive(path: str) -> bool:
    """Return whether a file name is that of a published archive."""
    return bool(_ARCHIVE.search(path))


def is_cifar_folder(path: str) -> bool:
    """Return whether a folder holds the files of a published archive."""
    return _variant_of(path) is not None


def _variant_of(folder: str) -> _Variant | None:
    """Return the form whose files a folder holds; None for none."""
    return next(
        (each for each in _VARIANTS if all(Path(folder, name).is_file() for name in (each.test, each.names))),
        None,
    )


def open_cifar_folder(folder: str) -> list[ArrayFile]:
    """Open the files of a folder, unpacked from a published archive.

    Raises:
        OSError: A file can't be read.
        SourceError: A file is damaged or missing.
    """
    variant = _variant_of(folder)
    if variant is None:
        raise SourceError(f"{folder}: expected the files of CIFAR-10 or 100")
    names_file = str(Path(folder, variant.names))
    names = _guarded(variant.classes, read_regular(names_file, _MOST), names_file)
    return [_open_batch(str(Path(folder, name)), variant, names) for name in variant.files]


def _open_batch(path: str, variant: _Variant, names: Sequence[str]) -> ArrayFile:
    stat = file_stat(path)
    part = _part(path, Path(path).name, read_regular(path, _MOST), variant, names)
    return array_file(path, stat, [part], partial(_open_batch, variant=variant, names=names))


def open_cifar_archive(path: str) -> ArrayFile:
    """Open a published archive, whose images are read into memory.

    Raises:
        OSError: The archive can't be read.
        SourceError: The archive is damaged or holds something else.
    """
    with open(open_regular(path), "rb") as stream:  # noqa: PTH123  # a descriptor
        status = os.fstat(stream.fileno())
        try:
            with tarfile.open(fileobj=_Bounded(stream, 2 * _MOST, path), mode="r|") as archive:
                files = dict(_files(archive))
        except SourceError:
            raise
        except (tarfile.TarError, EOFError, OSError, zlib.error, ValueError) as error:
            raise SourceError(f"{path}: not a readable archive: {one_line(error)}. Restore it") from error
    variant = next((each for each in _VARIANTS if {*each.files, each.names} <= files.keys()), None)
    if variant is None:
        raise SourceError(
            f"{path}: got the files {', '.join(sorted(files)) or 'none'}; expected those of CIFAR-10 or 100"
        )
    names = _guarded(variant.classes, files[variant.names], f"{path}/{variant.names}")
    parts = [_part(f"{path}/{name}", name, files[name], variant, names) for name in variant.files]
    return array_file(path, stat_fields(status), parts, open_cifar_archive)


class _Bounded(gzip.GzipFile):
    """Gzip file that is refused beyond a size, because a small one can expand to terabytes.

    Args:
        stream: The compressed file.
        most: Largest number of bytes that it may hold.
        path: Path of the file, for the message.
    """

    def __init__(self, stream: BinaryIO, most: int, path: str) -> None:
        super().__init__(fileobj=stream, mode="rb")
        self._most, self._left, self._path = most, most, path

    def read(self, size: int | None = -1) -> bytes:
        """Return the next bytes."""
        most = self._left + 1
        data = super().read(most if size is None or size < 0 else min(size, most))
        self._left -= len(data)
        if self._left < 0:
            raise SourceError(
                f"{self._path}: holds more than {self._most:,} bytes; expected CIFAR-10 or 100, which have fewer"
            )
        return data


def _files(archive: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    for member in archive:
        if member.isreg() and 0 <= member.size <= _MOST and (stream := archive.extractfile(member)):
            yield os.path.basename(member.name), stream.read()  # noqa: PTH119


def _part(where: str, name: str, data: bytes, variant: _Variant, names: Sequence[str]) -> Part:
    pixels, labels = _guarded(variant.batch, data, where)
    valid = (
        isinstance(pixels, np.ndarray)
        and pixels.dtype == np.uint8
        and pixels.ndim == 2
        and pixels.shape[1] == _PIXELS
        and len(labels) == len(pixels) > 0
        and all(isinstance(label, int) and 0 <= label < len(names) for label in labels)
    )
    if not valid:
        raise SourceError(
            f"{where}: expected images of 3,072 bytes, each with the number of one of {len(names)} classes"
        )
    images = LoadedPixels(pixels.reshape(-1, *_SHAPE))
    split = Split.TEST if name == variant.test else Split.TRAIN
    return Part(name.removesuffix(".bin"), images, [names[label] for label in labels], split)


def _guarded(read: Callable[[bytes], Any], data: bytes, where: str) -> Any:
    try:
        return read(data)
    except Exception as error:  # a pickle can raise anything
        raise SourceError(f"{where}: not a readable file of CIFAR: {one_line(error)}. Restore it") from error
