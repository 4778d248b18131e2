"""File operations: positioned reads and writes, allocation, syncing, renaming and memory mapping."""

import contextlib
import errno
import gc
import mmap
import os
import sys
import threading
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_UNSUPPORTED = {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}
_CHUNK = 1 << 24
# Python 3.11 lacks the name; this is its value on x86-64 and ARM64.
_MAP_NORESERVE: int = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)

_seeking = threading.Lock()


def open_binary(path: Path) -> int:
    """Open a file for reading and writing; create it if missing. Child processes don't inherit the descriptor."""
    # Without O_BINARY, Windows writes two bytes for each byte that is a line feed in text.
    return os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)


def write_all(fd: int, view: memoryview, offset: int) -> None:
    """Write all bytes of `view` at `offset`."""
    while view:
        written = _write_some(fd, view, offset)
        view, offset = view[written:], offset + written


def _write_some(fd: int, view: memoryview, offset: int) -> int:
    if hasattr(os, "pwrite"):
        return os.pwrite(fd, view, offset)
    with _seeking:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.write(fd, view)


def read_at(fd: int, size: int, offset: int) -> bytes:
    """Read exactly `size` bytes at `offset`.

    Raises:
        OSError: The file ends before the last byte.
    """
    data = _read_some(fd, size, offset)
    while len(data) < size:
        more = _read_some(fd, size - len(data), offset + len(data))
        if not more:
            raise OSError(errno.EIO, f"the file ends at byte {offset + len(data)}; expected {offset + size}")
        data += more
    return data


def _read_some(fd: int, size: int, offset: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(fd, size, offset)
    with _seeking:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.read(fd, size)


def allocate(fd: int, size: int) -> None:
    """Extend an empty file to `size` bytes and reserve the disk space."""
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
        write_all(fd, zeros[: size - offset], offset)


def sync(fd: int) -> None:
    """Wait until a file's data and size are on the disk."""
    if hasattr(fcntl, "F_FULLFSYNC"):  # on macOS, fsync does not flush the disk's write cache
        with contextlib.suppress(OSError):  # a file system without it
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
            return
    os.fsync(fd)


def sync_data(fd: int) -> None:
    """Wait until a file's data is on the disk. The size of the file must not have changed."""
    if hasattr(os, "fdatasync"):
        os.fdatasync(fd)
    else:
        sync(fd)


def rename(old: Path, new: Path) -> None:
    """Rename a file atomically within a folder, and sync the folder to the disk where the system supports it.

    Raises:
        PermissionError: A program has one of the two files open (Windows), or the folder is not writable.
    """
    try:
        old.replace(new)
    except PermissionError:
        gc.collect()  # close unreferenced memory maps of this process
        old.replace(new)
    if hasattr(os, "O_DIRECTORY"):
        folder = os.open(new.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def map_privately(fd: int, size: int) -> mmap.mmap:
    """Map a file's first `size` bytes copy-on-write: changes stay in the memory of this process."""
    if not hasattr(mmap, "PROT_READ"):  # Windows
        return mmap.mmap(fd, size, access=mmap.ACCESS_COPY)
    # Without MAP_NORESERVE, Linux refuses a private mapping larger than its memory.
    flags = mmap.MAP_PRIVATE | _MAP_NORESERVE
    return mmap.mmap(fd, size, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
