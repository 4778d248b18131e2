"""Reservation of a cache's disk space, and writes at byte offsets."""

import errno
import os
import shutil
from pathlib import Path

from frostline.features.cache.file.layout import Array, as_bytes
from frostline.system.files import allocate, named, write_all

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def reserve(fd: int, path: Path, size: int) -> None:
    """Extend an empty file to `size` bytes and reserve the disk space.

    Raises:
        OSError: The disk space is too small. The message gives the bytes needed and free. The file is empty again.
    """
    try:
        allocate(fd, size)
    except OSError as error:
        os.ftruncate(fd, 0)
        if error.errno not in _FULL:
            with named(path):
                raise
        free = shutil.disk_usage(path.parent).free
        raise OSError(
            error.errno,
            f"not enough disk space for the cache: it needs {size:,} bytes and {free:,} are free ({error.strerror}); "
            "free some space, choose another folder with --cache, or store fewer layers or a smaller dtype",
            str(path),
        ) from error


def write_at(fd: int, data: Array | bytes, offset: int) -> None:
    """Write C-contiguous `data` at byte `offset` of the file."""
    if len(data):
        write_all(fd, memoryview(data) if isinstance(data, bytes) else as_bytes(data), offset)
