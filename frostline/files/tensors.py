"""Reading of safetensors files: the header is checked before the tensors are read."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from frostline.system.files import open_regular

_MAX_HEADER = 100_000_000  # as the safetensors library has it
_LENGTH = 8
_METADATA = "__metadata__"


@dataclass(frozen=True)
class StoredTensor:
    """Place of a tensor in a safetensors file.

    Attributes:
        dtype: Type of its numbers, such as ``F32``.
        shape: Its shape.
        offset: Position of its first byte.
        size: Number of its bytes, which lie within the file.
    """

    dtype: str
    shape: tuple[int, ...]
    offset: int
    size: int


def read_tensors(path: str | Path) -> bytes:
    """Return the bytes of a safetensors file, if it is as long as its header says.

    A file of another kind or length is not read further than its header, however large it is.

    Raises:
        OSError: The file can't be read.
        ValueError: The file has no header of safetensors, or another length than the header says.
    """
    with open(open_regular(path), "rb") as file:  # noqa: PTH123  # a descriptor
        _header(file)
        file.seek(0)
        return file.read()


def tensor_places(file: BinaryIO) -> tuple[dict[str, StoredTensor], Mapping[str, str]]:
    """Return the places of the tensors of an open safetensors file by name, and its metadata.

    Raises:
        ValueError: The file has no header of safetensors, another length than the header says, or a tensor has no valid
            place.
    """
    tensors, begin = _header(file)
    told = tensors.pop(_METADATA, {})
    places = {}
    for name, entry in tensors.items():
        dtype, shape, (start, end) = entry.get("dtype"), entry.get("shape"), entry["data_offsets"]
        numbers = [start, end, *(shape if isinstance(shape, list) else [None])]
        if (
            not isinstance(dtype, str)
            or not all(type(each) is int and each >= 0 for each in numbers)
            or end < start
        ):
            raise ValueError(f"the entry of {name!r} in the header is not that of a tensor")
        places[name] = StoredTensor(dtype, tuple(shape), begin + start, end - start)
    texts = told if isinstance(told, dict) else {}
    return places, {key: text for key, text in texts.items() if isinstance(text, str)}


def _header(file: BinaryIO) -> tuple[dict[str, Any], int]:
    """Return the header of an open file, and where it ends.

    Raises:
        ValueError: It is not that of safetensors, or the file has another length than it says.
    """
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    length = int.from_bytes(file.read(_LENGTH), "little")
    if not 2 <= length <= min(size - _LENGTH, _MAX_HEADER):
        raise ValueError(f"the header has {length:,} bytes in a file of {size:,}")
    header = file.read(length)
    try:
        tensors = json.loads(header)
        ends = [entry["data_offsets"][1] for name, entry in tensors.items() if name != _METADATA]
        expected = _LENGTH + length + max(ends, default=0)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"the header is not that of safetensors ({error})") from error
    if size != expected:
        raise ValueError(f"the file has {size:,} bytes; its header describes {expected:,}")
    return tensors, _LENGTH + length
