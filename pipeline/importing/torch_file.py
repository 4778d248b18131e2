"""Files of ``torch.save`` that hold tensors, read by PyTorch's reader of weights, which runs no code."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from frostline.features.cache.imported.vectors import ArrayVectors, tensor_array
from frostline.features.errors import VectorsError, WeightsError
from frostline.pipeline.importing.importers import FoundVectors, Importer, Wanted
from frostline.pipeline.importing.named_arrays import NamedArray, found_arrays

_MAX_LEVELS: Final = 8  # of containers
_SEPARATOR: Final = "."
_ONLY: Final = "the tensor"  # name of a tensor that is the whole file


def _read(wanted: Wanted) -> FoundVectors:
    from frostline.features.backbones.weights.files import read_torch_objects

    try:
        loaded = read_torch_objects(wanted.path)
        return found_arrays(wanted, dict(_arrays(loaded, "", wanted.path)))
    except WeightsError as error:
        raise VectorsError(str(error).removeprefix("weights ")) from error


def _arrays(value: Any, name: str, path: str, level: int = 0) -> Iterator[tuple[str, NamedArray]]:
    """Yield the tensors and lists of values in a loaded file."""
    import torch

    if level > _MAX_LEVELS:
        raise VectorsError(
            f"{path}: its containers are nested more than {_MAX_LEVELS} levels deep; expected tensors by name"
        )
    if isinstance(value, torch.Tensor):
        yield name or _ONLY, _tensor(value, name or _ONLY, path)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _arrays(item, f"{name}{_SEPARATOR}{key}" if name else str(key), path, level + 1)
    elif isinstance(value, list | tuple) and value and all(isinstance(item, str | int) for item in value):
        kept = np.array(value)
        yield (
            name or "the list",
            NamedArray(kept.shape, kept.dtype.name, lambda: ArrayVectors(kept), lambda: kept),
        )


def _tensor(tensor: Any, name: str, path: str) -> NamedArray:
    from frostline.features.backbones.weights.files import check_tensor

    def plain() -> tuple[NDArray[Any], str]:
        found = check_tensor(name, tensor, path, Path(path).stat().st_size)
        try:
            return tensor_array(found)
        except VectorsError as error:
            raise VectorsError(f"{path}, its array {name!r}: {error}") from None

    dtype = str(tensor.dtype).removeprefix("torch.")
    return NamedArray(tuple(tensor.shape), dtype, lambda: ArrayVectors(*plain()), lambda: plain()[0])


TORCH = Importer("tensors of PyTorch", (".pt", ".pth"), _read)
