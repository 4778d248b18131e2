"""NumPy files of vectors: ``.npy``, read in place, and ``.npz``, whose arrays are copied block by block."""

import errno
import math
import os
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from frostline.errors import one_line
from frostline.features.cache.imported.vectors import (
    BLOCK_BYTES,
    EMBEDDING,
    StoredVectors,
    Vectors,
    check_vectors,
    rows_per_block,
)
from frostline.features.errors import SourceError, VectorsError
from frostline.features.sources.arrays.numpy_files import ERRORS, read_header
from frostline.pipeline.importing.importers import FoundVectors, Importer, Wanted
from frostline.pipeline.importing.named_arrays import NamedArray, found_arrays, read_description
from frostline.system.files import open_regular, read_at, write_all

NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Numbers of the errors of a full disk, which say nothing of the file that is read."""

_MAX_VALUES: Final = 1 << 30  # bytes of an array that is read whole
_MOST_PACKED: Final = 1100  # bytes that one compressed byte can stand for; deflate reaches 1032


def opened(wanted: Wanted) -> BinaryIO:
    """Open the file that is wanted, until all is read.

    Raises:
        OSError: The file can't be opened.
    """
    return wanted.stack.enter_context(open(open_regular(wanted.path), "rb"))  # noqa: PTH123  # a descriptor


def _read_npy(wanted: Wanted) -> FoundVectors:
    for role in ("id", "label", "split", "group", "classes"):
        wanted.role(role, ())
    if wanted.arrays or wanted.columns:
        raise VectorsError(
            f"{wanted.path}: holds one array without a name; --array and --columns are for other files"
        )
    file = opened(wanted)
    shape, fortran, kind = read_header(file, wanted.path)
    check_vectors(shape, kind.name, wanted.path)
    size = math.prod(shape) * kind.itemsize
    offset, end = file.tell(), os.fstat(file.fileno()).st_size
    if end < offset + size:
        raise VectorsError(
            f"{wanted.path}: has {end - offset:,} bytes of numbers, expected {size:,}; it is not complete"
        )
    rows, width = shape
    if not fortran:
        return FoundVectors({EMBEDDING: StoredVectors(file, offset, (rows, width), kind)})
    blocks = _columns(file, offset, (rows, width), kind)
    return FoundVectors({EMBEDDING: wanted.scratch.copy(blocks, wanted.path, rows=rows)})


def _columns(
    file: BinaryIO, offset: int, shape: tuple[int, int], kind: np.dtype[Any]
) -> Iterator[NDArray[Any]]:
    """Yield blocks of rows of an array whose columns lie one after the other."""
    rows, width = shape
    step = rows_per_block(width)
    for start in range(0, rows, step):
        count = min(step, rows - start)
        block = np.empty((count, width), kind.newbyteorder("="))
        for column in range(width):
            at = offset + (column * rows + start) * kind.itemsize
            block[:, column] = np.frombuffer(read_at(file.fileno(), count * kind.itemsize, at), kind)
        yield block


def _read_npz(wanted: Wanted) -> FoundVectors:
    file = opened(wanted)
    try:
        archive = wanted.stack.enter_context(zipfile.ZipFile(file))
        names = [name for name in archive.namelist() if name.endswith(".npy")]
        if len({*names}) < len(names):
            raise VectorsError(f"{wanted.path}: has two arrays of one name; save it again")
        arrays = {name.removesuffix(".npy"): _member(archive, name, wanted) for name in names}
        told = arrays.pop("provenance", None)
        text = told.values() if told and told.shape == () and told.dtype.startswith("str") else None
        return found_arrays(wanted, arrays, read_description(str(text)) if text is not None else None)
    except (*ERRORS, OSError) as error:
        if isinstance(error, SourceError | VectorsError):
            raise
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise
        raise VectorsError(f"{wanted.path}: not a readable .npz file: {one_line(error)}") from error


@dataclass(frozen=True, eq=False)
class _Member:
    """Array in a zip archive.

    Attributes:
        archive: The archive.
        name: Name of the member.
        start: Number of bytes before the first number.
        shape: Shape of the array.
        kind: Type of its elements.
        fortran: Whether its columns lie one after the other.
    """

    archive: zipfile.ZipFile
    name: str
    start: int
    shape: tuple[int, ...]
    kind: np.dtype[Any]
    fortran: bool

    @property
    def size(self) -> int:
        return math.prod(self.shape) * self.kind.itemsize

    def vectors(self, wanted: Wanted, where: str) -> Vectors:
        rows, width = self.shape
        blocks = (
            self._transposed(wanted.scratch.file())
            if self.fortran and min(self.shape) > 1
            else (
                np.frombuffer(data, self.kind)
                .reshape(-1, width)
                .astype(self.kind.newbyteorder("="), copy=False)
                for data in self._pieces(rows_per_block(width) * width * self.kind.itemsize)
            )
        )
        return wanted.scratch.copy(blocks, where, rows=rows)

    def values(self, where: str) -> NDArray[Any]:
        if self.kind.hasobject:
            raise VectorsError(
                f"{where}: holds Python objects, which are a pickle and never loaded; expected texts or whole numbers. Save"
                " it as one, such as array.astype(str)"
            )
        if self.size > _MAX_VALUES:
            raise VectorsError(f"{where}: has {self.size:,} bytes, expected one value per row")
        with self.archive.open(self.name) as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return npy.read_array(stream, allow_pickle=False)

    def _pieces(self, step: int) -> Iterator[bytes]:
        """Yield the bytes of the numbers in pieces; the checksum of the member is verified at its end."""
        with self.archive.open(self.name) as stream:
            stream.read(self.start)
            for at in range(0, self.size, step):
                yield _exactly(stream, min(step, self.size - at))
            if stream.read(1):
                raise VectorsError(f"{self.name}: is longer than its shape says")

    def _transposed(self, file: BinaryIO) -> Iterator[NDArray[Any]]:
        """Yield blocks of rows of an array in Fortran order, which is first copied to the disk as it is."""
        at = 0
        for piece in self._pieces(BLOCK_BYTES):
            write_all(file.fileno(), memoryview(piece), at)
            at += len(piece)
        rows, width = self.shape
        yield from _columns(file, 0, (rows, width), self.kind)


def _member(archive: zipfile.ZipFile, name: str, wanted: Wanted) -> NamedArray:
    where = f"{wanted.path}, its array {name.removesuffix('.npy')!r}"
    entry = archive.getinfo(name)
    with archive.open(name) as stream:
        shape, fortran, kind = read_header(stream, where)
        member = _Member(archive, name, stream.tell(), shape, kind, fortran)
    found = entry.file_size - member.start
    if found != member.size and not kind.hasobject:
        raise VectorsError(f"{where}: has {found:,} bytes of numbers, expected {member.size:,}")
    if entry.file_size > _MOST_PACKED * max(1, entry.compress_size):
        raise VectorsError(f"{where}: claims {entry.file_size:,} bytes in {entry.compress_size:,}")
    return NamedArray(shape, kind.name, lambda: member.vectors(wanted, where), lambda: member.values(where))


def _exactly(stream: Any, size: int) -> bytes:
    pieces = []
    while size:
        piece = stream.read(size)
        if not piece:
            raise EOFError("the file ends within an array")
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


NPY = Importer("array of NumPy", (".npy",), _read_npy)
NPZ = Importer("arrays of NumPy", (".npz",), _read_npz)
