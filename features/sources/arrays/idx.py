"""Files of the MNIST family, in the IDX format.

Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits",
http://yann.lecun.com/exdb/mnist/.
"""

import gzip
import itertools
import os
import re
import zlib
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from frostline.features.errors import SourceError
from frostline.features.sources.arrays.encoding import check_images
from frostline.features.sources.arrays.numpy_files import MAX_LOADED
from frostline.features.sources.arrays.parts import (
    ArrayFile,
    LoadedPixels,
    Part,
    Pixels,
    StoredPixels,
    array_file,
    label_texts,
)
from frostline.features.sources.split_names import SPLIT_CODES
from frostline.features.sources.stats import stat_fields
from frostline.splits import Split
from frostline.system.files import open_regular

_TYPES: Final = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_IMAGES: Final = re.compile(r"images([-.])idx3-ubyte(\.gz)?$")
_MOST: Final = 100  # entries of a folder
_DIMENSIONS: Final = 4  # of an array


def is_idx(path: str) -> bool:
    """Return whether a file name is that of images in the IDX format."""
    return bool(_IMAGES.search(path))


def idx_files(folder: str) -> list[str]:
    """Return the image files of a folder, each once, uncompressed rather than compressed.

    A folder of more than 100 entries is taken for something else, so that large folders are not listed for this.
    """
    with os.scandir(folder) as entries:
        names = [entry.name for entry in itertools.islice(entries, _MOST + 1)]
    found = {name for name in names if is_idx(name)} if len(names) <= _MOST else set()
    kept = sorted(name for name in found if not (name.endswith(".gz") and name.removesuffix(".gz") in found))
    return [os.path.join(folder, name) for name in kept]  # noqa: PTH118


def open_idx(path: str) -> ArrayFile:
    """Open a file of images, with the labels in the file beside it whose name has ``labels`` in place of ``images``.

    Raises:
        OSError: A file can't be read.
        SourceError: A file is damaged, or the numbers of images and labels differ.
    """
    with open(open_regular(path), "rb") as stream:  # noqa: PTH123  # a descriptor
        status = os.fstat(stream.fileno())
        pixels = _images(stream, path, status.st_size)
    count = pixels.shape[0]
    beside = _labels_beside(path)
    texts = label_texts(_read(beside), count, beside) if beside else [""] * count
    remarks = (
        ()
        if beside
        else (f"there is no file {_labels_name(path)!r} beside it, so its images are unlabelled",)
    )
    name, split = _part(path)
    return array_file(path, stat_fields(status), [Part(name, pixels, texts, split)], open_idx, remarks)


def _images(stream: BinaryIO, path: str, size: int) -> Pixels:
    if path.endswith(".gz"):
        loaded = _read(path)
        check_images(loaded.shape, loaded.dtype, path)
        return LoadedPixels(loaded)
    shape, dtype = _header(stream, path)
    check_images(shape, dtype, path)
    if size < stream.tell() + int(np.prod(shape, dtype=object)):
        raise SourceError(
            f"{path}: the file ends within its {shape[0]:,} images; it is not complete. Restore it"
        )
    return StoredPixels(shape, stream.tell())


def _read(path: str) -> NDArray[np.uint8]:
    """Return the array of a file."""
    with open(open_regular(path), "rb") as raw:  # noqa: PTH123  # a descriptor
        stream: BinaryIO = gzip.GzipFile(fileobj=raw) if path.endswith(".gz") else raw  # type: ignore[assignment]
        try:
            shape, dtype = _header(stream, path)
            size = int(np.prod(shape, dtype=object)) * dtype.itemsize
            if size > MAX_LOADED:
                raise SourceError(
                    f"{path}: has {size:,} bytes; expected at most {MAX_LOADED:,}. Uncompress the file"
                )
            data = stream.read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise SourceError(f"{path}: not a readable gzip file: {error}. Restore it") from error
    if len(data) < size:
        raise SourceError(
            f"{path}: got {len(data):,} bytes of {size:,}; the file is not complete. Restore it"
        )
    try:
        return np.frombuffer(data, dtype).reshape(shape)
    except ValueError as error:
        raise SourceError(f"{path}: its header tells of an impossible shape: {error}. Restore it") from error


def _header(stream: BinaryIO, path: str) -> tuple[tuple[int, ...], np.dtype[np.uint8]]:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPES or not 0 < magic[3] <= _DIMENSIONS:
        raise SourceError(
            f"{path}: not a file of images or labels in the IDX format; it begins with {magic!r}"
        )
    sizes = stream.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise SourceError(f"{path}: the file ends within its header; it is not complete. Restore it")
    return tuple(np.frombuffer(sizes, ">u4").tolist()), np.dtype(_TYPES[magic[2]])


def _labels_name(path: str) -> str:
    return _IMAGES.sub(lambda found: f"labels{found[1]}idx1-ubyte", os.path.basename(path))  # noqa: PTH119


def _labels_beside(path: str) -> str:
    """Return the path of the labels that belong to images; empty if there are none."""
    plain = os.path.join(os.path.dirname(path), _labels_name(path))  # noqa: PTH118, PTH120
    return next((each for each in (plain, f"{plain}.gz") if os.path.exists(each)), "")  # noqa: PTH110


def _part(path: str) -> tuple[str, Split]:
    """Return the name of a part, and its split: ``t10k-images-idx3-ubyte`` is the test set."""
    name = _IMAGES.sub("", os.path.basename(path)).rstrip("-_.")  # noqa: PTH119
    last = name.rpartition("-")[2].lower()
    split = Split.TEST if last == "t10k" else SPLIT_CODES.get(last, Split.NONE)
    return name or "images", split
