"""Checks of zip archives before their members are unpacked: no member claims more than the archive holds."""

import io
import math
import zipfile
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.lib import format as npy

from frostline.system.files import open_regular

_ENCRYPTED = 0x1


def read_archive(path: Path) -> bytes:
    """Return the bytes of a zip archive. A file of another kind is not read further than its end, however large it is.

    Raises:
        OSError: The file can't be read.
        ValueError: The file is no zip archive.
    """
    with open(open_regular(path), "rb") as file:  # noqa: PTH123  # a descriptor
        if not zipfile.is_zipfile(file):
            raise ValueError("it is no whole zip archive")
        file.seek(0)
        return file.read()


def check_stored(data: bytes) -> None:
    """Check that every member of a zip archive lies in it as it is, and that every array has the size it claims.

    A compressed member can unpack to any size, and an array is allocated before its bytes are read.

    Raises:
        ValueError: The data is no zip archive, or a member is compressed, encrypted, named twice, or has another size
            than it claims.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
            if len(set(names)) < len(names):
                raise ValueError("it has two members of one name")
            for member in archive.infolist():
                _check(archive, member, len(data))
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, RuntimeError, LookupError) as error:
        raise ValueError(f"it is no whole zip archive ({error})") from error


def _check(archive: zipfile.ZipFile, member: zipfile.ZipInfo, size: int) -> None:
    name = member.filename
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"its member {name!r} is compressed, which Frostline never does")
    if member.flag_bits & _ENCRYPTED:
        raise ValueError(f"its member {name!r} is encrypted")
    if member.file_size != member.compress_size or member.file_size > size:
        raise ValueError(f"its member {name!r} claims {member.file_size} bytes, and the archive has {size}")
    content = archive.read(member)
    if len(content) != member.file_size:
        raise ValueError(f"its member {name!r} has {len(content)} bytes; expected {member.file_size}")
    if content.startswith(npy.MAGIC_PREFIX):
        _check_array(name, content)


def _check_array(name: str, content: bytes) -> None:
    stream = io.BytesIO(content)
    try:
        shape, dtype = _header(stream)
    except (
        ValueError,
        TypeError,
        SyntaxError,
        TokenError,
        RecursionError,
        MemoryError,
        OverflowError,
    ) as error:
        raise ValueError(
            f"the array {name!r} has no valid header ({str(error).partition(chr(10))[0]})"
        ) from error
    if dtype.hasobject:
        return  # never read: it would be a pickle
    claimed = math.prod(shape) * dtype.itemsize
    found = len(content) - stream.tell()
    if claimed != found:
        raise ValueError(f"the array {name!r} claims {claimed} bytes, and has {found}")


def _header(stream: io.BytesIO) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = npy.read_magic(stream)
    if version not in {(1, 0), (2, 0), (3, 0)}:
        raise ValueError(f"format version {version}")
    # Version 3 has the layout of version 2; only names of fields are encoded in another way.
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(stream)
    if any(length < 0 for length in shape):
        raise ValueError(f"shape {shape}")
    return shape, dtype
