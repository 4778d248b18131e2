"""Vectors to import, read row by row in any order: arrays in memory, arrays in files, and copies on the disk."""

import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import numpy as np
from numpy.typing import NDArray

from frostline.features.errors import VectorsError
from frostline.system.files import read_at, write_all

EMBEDDING: Final = "embedding"
"""Name of the layer of vectors that have no name of their own."""

BLOCK_BYTES: Final = 4 << 20
"""Bytes of a block of rows, about."""

_MAX_DIM = 1 << 20
_NUMBERS = "float16, float32, float64, bfloat16, integers or bool"


def check_vectors(shape: tuple[int, ...], dtype: str, where: str) -> None:
    """Raise `VectorsError` unless an array holds one vector of numbers per row.

    Args:
        shape: Shape of the array.
        dtype: Name of the type of its elements.
        where: Place named in the message.
    """
    if len(shape) != 2 or min(shape) < 1 or shape[1] > _MAX_DIM:
        remedy = {
            1: "Reshape it to (n, 1) or (1, d)",
            3: "Average or choose along one axis, such as that of the tokens",
            4: "Average over height and width",
        }.get(len(shape), f"The width is at most {_MAX_DIM:,}")
        raise VectorsError(
            f"{where}: got an array of shape {tuple(shape)}, expected (n, d), one vector per row. {remedy}"
        )
    if dtype != "bfloat16" and not _is_numeric(dtype):
        raise VectorsError(f"{where}: got numbers of type {dtype}, expected {_NUMBERS}. Convert them")


def _is_numeric(dtype: str) -> bool:
    try:
        kind = np.dtype(dtype)
    except TypeError:
        return False
    return kind.kind in "iub" or (kind.kind == "f" and kind.itemsize <= 8)


class Vectors(ABC):
    """(n, d) array that is read in blocks of rows.

    Attributes:
        shape: Numbers of rows and columns.
        dtype: Name of the type of the numbers in the file: that of NumPy, or ``bfloat16``.
    """

    shape: tuple[int, int]
    dtype: str

    @abstractmethod
    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return some rows, (k, d), in the order of `rows`. bfloat16 becomes float32, which holds it exactly.

        Raises:
            OSError: The file can't be read.
        """


class ArrayVectors(Vectors):
    """Array in memory, or mapped into it.

    Args:
        array: (n, d) numbers.
        dtype: Name of their type, if not that of the array.
    """

    def __init__(self, array: NDArray[Any], dtype: str = "") -> None:
        self._array, self.dtype = array, dtype or array.dtype.name
        self.shape = cast("tuple[int, int]", array.shape)

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return some rows; see `Vectors.take`."""
        return from_bits(self._array[rows], self.dtype)


class StoredVectors(Vectors):
    """Array that lies in a file as it is, row after row, read in place.

    Args:
        file: The file.
        offset: Position of the first number.
        shape: Numbers of rows and columns.
        kind: Type of the stored numbers; uint16 for bfloat16.
        dtype: Name of their type, if not that of `kind`.
    """

    def __init__(
        self, file: BinaryIO, offset: int, shape: tuple[int, int], kind: np.dtype[Any], dtype: str = ""
    ) -> None:
        self._fd, self._offset, self._kind = file.fileno(), offset, kind
        self.shape, self.dtype = shape, dtype or kind.newbyteorder("=").name

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return some rows; see `Vectors.take`."""
        width = self.shape[1] * self._kind.itemsize
        edges = np.flatnonzero(np.diff(rows) != 1) + 1
        starts, ends = [0, *edges.tolist()], [*edges.tolist(), len(rows)]
        pieces = [
            read_at(self._fd, (end - start) * width, self._offset + int(rows[start]) * width)
            for start, end in zip(starts, ends, strict=True)
        ]
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return from_bits(np.frombuffer(data, self._kind).reshape(len(rows), self.shape[1]), self.dtype)


def from_bits(values: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Return numbers in the byte order of the machine; float32 for the bits of bfloat16."""
    if dtype != "bfloat16":
        return values.astype(values.dtype.newbyteorder("="), copy=False)
    return (values.astype(np.uint32) << 16).view(np.float32)


class Scratch:
    """Copies of vectors that can only be read in order, in files without a name, which end with the process.

    Args:
        folder: Folder of the files, which needs room for the copies.
        stack: Closes the files.
    """

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self.stack = folder, stack

    def copy(self, blocks: Iterable[NDArray[Any]], where: str, *, rows: int | None = None) -> Vectors:
        """Return the vectors of blocks, (k, d) each, that follow one another; see `copy_all`."""
        return self.copy_all(({"": block} for block in blocks), where, rows=rows)[""]

    def copy_all(
        self, blocks: Iterable[Mapping[str, NDArray[Any]]], where: str, *, rows: int | None = None
    ) -> dict[str, Vectors]:
        """Return the vectors of several arrays, given blocks with rows of all.

        Args:
            blocks: (k, d) arrays by name, the same names in every block.
            where: Place named in messages.
            rows: Number of rows, if it is known.

        Raises:
            VectorsError: A block has another width, type or name than the first, or the number of rows is another.
            OSError: There is no room for the copy.
        """
        copies: dict[str, _Copy] = {}
        for block in blocks:
            if not copies:
                copies = {
                    name: _Copy(self.file(), array, _place(where, name)) for name, array in block.items()
                }
            if block.keys() != copies.keys():
                raise VectorsError(
                    f"{where}: got a block with {', '.join(block)}, expected {', '.join(copies)} as in the first"
                )
            for name, array in block.items():
                copies[name].add(array)
        counts = {copy.count for copy in copies.values()}
        if len(counts) > 1 or counts == {0} or not counts or (rows is not None and counts != {rows}):
            got = ", ".join(map(str, sorted(counts))) or "0"
            raise VectorsError(
                f"{where}: got {got} rows, expected {rows or 'the same number of each array, and one or more'}"
            )
        return {name: copy.vectors() for name, copy in copies.items()}

    def file(self) -> BinaryIO:
        """Return a new file without a name."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return cast(
            "BinaryIO", self.stack.enter_context(tempfile.TemporaryFile(dir=self.folder, buffering=0))
        )


class _Copy:
    """A copy that is being written."""

    def __init__(self, file: BinaryIO, first: NDArray[Any], where: str) -> None:
        check_vectors((max(1, len(first)), *first.shape[1:]), first.dtype.name, where)
        self._file, self._where, self._width = file, where, first.shape[1]
        self._kind = first.dtype.newbyteorder("=")
        self.count = 0

    def add(self, block: NDArray[Any]) -> None:
        if block.ndim != 2 or block.shape[1] != self._width:
            raise VectorsError(
                f"{self._where}, from row {self.count}: got a block of shape {block.shape}, expected (k, {self._width})"
            )
        if not np.can_cast(block.dtype, self._kind, "safe"):
            raise VectorsError(
                f"{self._where}, from row {self.count}: got {block.dtype}, expected {self._kind} as before"
            )
        data = np.ascontiguousarray(block, self._kind)
        if data.size:
            write_all(self._file.fileno(), data.reshape(-1).view(np.uint8).data, self.count * data.strides[0])
        self.count += len(block)

    def vectors(self) -> Vectors:
        return StoredVectors(self._file, 0, (self.count, self._width), self._kind)


def _place(where: str, name: str) -> str:
    return f"{where}, {name!r}" if name else where


def as_vectors(X: Any, scratch: Scratch) -> dict[str, Vectors]:
    """Return what a script passes as vectors, by layer.

    Args:
        X: (n, d) array or tensor; mapping of layer to such arrays; anything with `shape`, `dtype` and slices, such as a
            dataset of h5py; or an iterable of blocks, (k, d) arrays or mappings of such.
        scratch: Place for copies of what can only be read in order.

    Raises:
        VectorsError: It is something else, or of another shape or type.
    """
    if isinstance(X, Mapping):
        if not X:
            raise VectorsError("X: got no array, expected one or more")
        return {str(key): _array(array, f"X[{key!r}]", scratch) for key, array in X.items()}
    if isinstance(X, str | bytes | os.PathLike):
        raise VectorsError(f"X: got {X!r}, expected an array. Import a file with: frostline cache import")
    if hasattr(X, "shape"):
        return {EMBEDDING: _array(X, "X", scratch)}
    if isinstance(X, list | tuple) and X and not hasattr(X[0], "shape") and not isinstance(X[0], Mapping):
        return {EMBEDDING: _array(X, "X", scratch)}
    if isinstance(X, Iterable):
        return scratch.copy_all(_blocks(X), "X")
    raise VectorsError(
        f"X: got {type(X).__name__}, expected an (n, d) array, or a mapping of layers to arrays"
    )


def _array(array: Any, where: str, scratch: Scratch) -> Vectors:
    plain, dtype = plain_array(array, where)
    if plain is None:
        if not (hasattr(array, "shape") and hasattr(array, "dtype") and hasattr(array, "__getitem__")):
            raise VectorsError(f"{where}: got {type(array).__name__}, expected an (n, d) array of numbers")
        shape = tuple(array.shape)
        check_vectors(shape, str(array.dtype), where)
        return scratch.copy(sliced(array, shape[1]), where, rows=shape[0])
    check_vectors(plain.shape, dtype, where)
    return ArrayVectors(plain, dtype)


def sliced(array: Any, width: int) -> Iterator[NDArray[Any]]:
    """Yield blocks of the rows of something that is read by slices."""
    step = rows_per_block(width)
    for start in range(0, array.shape[0], step):
        yield np.asarray(array[start : start + step])


def rows_per_block(width: int) -> int:
    """Return the number of rows, of so many float32 numbers each, that make a block."""
    return max(1, min(8192, BLOCK_BYTES // (4 * width)))


def plain_array(array: Any, where: str) -> tuple[NDArray[Any] | None, str]:
    """Return an array, a tensor or nested lists as an array, and the name of its type; None for something else.

    Masked values become NaN. The bits of bfloat16 become uint16.

    Args:
        array: The numbers.
        where: Place named in messages.

    Raises:
        VectorsError: The lists have different lengths, or the tensor is of another type.
    """
    if isinstance(array, list | tuple):
        try:
            array = np.asarray(array)
        except ValueError as error:
            raise VectorsError(f"{where}: expected rows of the same length ({error})") from None
    if isinstance(array, np.ma.MaskedArray):
        if array.dtype.kind in "biuf" and np.ma.getmaskarray(array).any():
            kind = np.result_type(array.dtype, np.float16)
            array = np.ma.filled(np.ma.asarray(array, kind), np.nan)
        array = np.ma.getdata(array)
    if isinstance(array, np.ndarray):
        return array, array.dtype.name
    if type(array).__module__.partition(".")[0] == "torch":
        try:
            return tensor_array(array)
        except VectorsError as error:
            raise VectorsError(f"{where}: {error}") from None
    return None, ""


def tensor_array(tensor: Any) -> tuple[NDArray[Any], str]:
    """Return a tensor as an array, and the name of the type; the bits of bfloat16 as uint16."""
    import torch

    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:
        return tensor.contiguous().view(torch.int16).numpy().view(np.uint16), "bfloat16"
    try:
        array: NDArray[Any] = tensor.numpy()
    except (TypeError, RuntimeError) as error:
        raise VectorsError(f"got a tensor of {tensor.dtype}, expected {_NUMBERS} ({error})") from None
    return array, array.dtype.name


def _blocks(X: Iterable[Any]) -> Iterator[dict[str, NDArray[Any]]]:
    for block in X:
        found = block if isinstance(block, Mapping) else {EMBEDDING: block}
        arrays = {}
        for name, array in found.items():
            plain, dtype = plain_array(array, "X")
            if plain is None:
                raise VectorsError(f"X: got a block of {type(array).__name__}, expected a (k, d) array")
            arrays[str(name)] = from_bits(plain, dtype)
        yield arrays
