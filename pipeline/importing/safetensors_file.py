"""Files of safetensors, whose tensors are read in place."""

from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from frostline.features.cache.imported.vectors import StoredVectors, Vectors
from frostline.features.errors import VectorsError
from frostline.files.tensors import StoredTensor, tensor_places
from frostline.pipeline.importing.importers import FoundVectors, Importer, Wanted
from frostline.pipeline.importing.named_arrays import NamedArray, found_arrays, read_description
from frostline.pipeline.importing.numpy_files import opened
from frostline.system.files import read_at

_KINDS: Final = {
    **{f"F{bits}": f"<f{bits // 8}" for bits in (16, 32, 64)},
    **{f"I{bits}": f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
    "BF16": "<u2",
    "BOOL": "|b1",
}
_MAX_VALUES: Final = 1 << 30


def _read(wanted: Wanted) -> FoundVectors:
    file = opened(wanted)
    try:
        tensors, told = tensor_places(file)
    except ValueError as error:
        raise VectorsError(f"{wanted.path}: not a readable safetensors file: {error}") from error
    arrays = {
        name: NamedArray(
            tensor.shape,
            _dtype(tensor),
            partial(_vectors, file, tensor, name, wanted),
            partial(_values, file, tensor, name, wanted),
        )
        for name, tensor in tensors.items()
    }
    return found_arrays(wanted, arrays, read_description(told.get("frostline", "")))


def _dtype(tensor: StoredTensor) -> str:
    if tensor.dtype == "BF16":
        return "bfloat16"
    return np.dtype(_KINDS[tensor.dtype]).name if tensor.dtype in _KINDS else tensor.dtype


def _kind(tensor: StoredTensor, name: str, wanted: Wanted) -> np.dtype[Any]:
    if tensor.dtype not in _KINDS:
        raise VectorsError(
            f"{wanted.path}, its array {name!r}: got {tensor.dtype}, expected {', '.join(_KINDS)}"
        )
    kind = np.dtype(_KINDS[tensor.dtype])
    size = kind.itemsize * int(np.prod(tensor.shape, dtype=object))
    if size != tensor.size:
        raise VectorsError(f"{wanted.path}, its array {name!r}: has {tensor.size:,} bytes, expected {size:,}")
    return kind


def _vectors(file: Any, tensor: StoredTensor, name: str, wanted: Wanted) -> Vectors:
    kind = _kind(tensor, name, wanted)
    rows, width = tensor.shape
    return StoredVectors(file, tensor.offset, (rows, width), kind, _dtype(tensor))


def _values(file: Any, tensor: StoredTensor, name: str, wanted: Wanted) -> NDArray[Any]:
    kind = _kind(tensor, name, wanted)
    if tensor.size > _MAX_VALUES:
        raise VectorsError(
            f"{wanted.path}, its array {name!r}: has {tensor.size:,} bytes, expected one value per row"
        )
    return np.frombuffer(read_at(file.fileno(), tensor.size, tensor.offset), kind).reshape(tensor.shape)


SAFETENSORS = Importer("tensors of safetensors", (".safetensors",), _read)
