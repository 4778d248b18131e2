"""Reserve the disk space of a cache, and write into it in place."""

import errno
import os
import shutil
from pathlib import Path

from frostline.features.cache.file.layout import Array, as_bytes
from frostline.features.system.files import allocate, write_all

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def reserve(fd: int, path: Path, size: int) -> None:
    """Make an empty file `size` bytes long, with space for all of them.

    Raises:
        OSError: There is no space; the message gives the bytes needed and free, and the file is empty again.
    """
    try:
        allocate(fd, size)
    except OSError as error:
        os.ftruncate(fd, 0)
        if error.errno not in _FULL:
            raise
        free = shutil.disk_usage(path.parent).free
        raise OSError(
            error.errno,
            f"no room for the cache: it needs {size:,} bytes and {free:,} are free ({error.strerror}); "
            "free some space, choose another folder with --cache, or store fewer layers or a smaller dtype",
            str(path),
        ) from error


def write_at(fd: int, data: Array | bytes, offset: int) -> None:
    """Write all of `data`, C-contiguous, at `offset` bytes into the file."""
    if len(data):
        write_all(fd, memoryview(data) if isinstance(data, bytes) else as_bytes(data), offset)
