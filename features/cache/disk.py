"""What a cache asks of the file system: space before it starts, writes in place, and durable names."""

import errno
import os
import shutil
from pathlib import Path

from features.cache.layout import Array, as_bytes

__all__ = ["read_at", "rename", "reserve", "sync", "sync_data", "write_at"]

_UNSUPPORTED = {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_CHUNK = 1 << 24

sync = os.fsync
"""Wait until a file's data and size are on the disk."""

sync_data = getattr(os, "fdatasync", os.fsync)
"""Wait until a file's data is on the disk; its size has not changed."""


def reserve(fd: int, path: Path, size: int) -> None:
    """Make an empty file `size` bytes long, with space for all of them.

    Raises:
        OSError: There is no space; the message gives the bytes needed and free, and the file is empty again.
    """
    try:
        _allocate(fd, size)
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


def _allocate(fd: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(fd, 0, size)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
        else:
            return
    zeros = memoryview(bytes(_CHUNK))
    for offset in range(0, size, _CHUNK):
        _write_all(fd, zeros[: size - offset], offset)


def write_at(fd: int, data: Array | bytes, offset: int) -> None:
    """Write all of `data`, C-contiguous, at `offset` bytes into the file."""
    if len(data):
        _write_all(fd, memoryview(data) if isinstance(data, bytes) else as_bytes(data), offset)


def _write_all(fd: int, view: memoryview, offset: int) -> None:
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def read_at(fd: int, size: int, offset: int) -> bytes:
    """Read exactly `size` bytes at `offset`.

    Raises:
        OSError: The file ends before that.
    """
    data = os.pread(fd, size, offset)
    while len(data) < size:
        more = os.pread(fd, size - len(data), offset + len(data))
        if not more:
            raise OSError(errno.EIO, f"the file ends at byte {offset + len(data)}; expected {offset + size}")
        data += more
    return data


def rename(old: Path, new: Path) -> None:
    """Rename within a folder, in one step, and wait until the folder is on the disk."""
    old.replace(new)
    folder = os.open(new.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
