"""Reading of safetensors files: the header is checked before the tensors are read."""

import json
import os
from pathlib import Path

from frostline.system.files import open_regular

_MAX_HEADER = 100_000_000  # as the safetensors library has it
_LENGTH = 8


def read_tensors(path: str | Path) -> bytes:
    """Return the bytes of a safetensors file, if it is as long as its header says.

    A file of another kind or length is not read further than its header, however large it is.

    Raises:
        OSError: The file can't be read.
        ValueError: The file has no header of safetensors, or another length than the header says.
    """
    with open(open_regular(path), "rb") as file:  # noqa: PTH123  # a descriptor
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(_LENGTH), "little")
        if not 2 <= length <= min(size - _LENGTH, _MAX_HEADER):
            raise ValueError(f"the header has {length:,} bytes in a file of {size:,}")
        expected = _LENGTH + length + _end(file.read(length))
        if size != expected:
            raise ValueError(f"the file has {size:,} bytes; its header describes {expected:,}")
        file.seek(0)
        return file.read()


def _end(header: bytes) -> int:
    """Return where the last tensor ends, counted from the end of the header."""
    try:
        tensors = json.loads(header)
        return max(
            (entry["data_offsets"][1] for name, entry in tensors.items() if name != "__metadata__"), default=0
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"the header is not that of safetensors ({error})") from error
