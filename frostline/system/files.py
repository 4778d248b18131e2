"""File operations: positioned reads and writes, allocation, syncing, renaming and memory mapping."""

import contextlib
import errno
import gc
import mmap
import os
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_OF_DISK = {
    *(errno.ENOSPC, errno.EIO, errno.EFBIG, errno.EROFS, errno.EACCES),
    getattr(errno, "EDQUOT", errno.ENOSPC),
}
_UNSUPPORTED = {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}
_CHUNK = 1 << 24
# Without O_BINARY, Windows writes two bytes for each byte that is a line feed in text. A link that replaces the file
# between a check and the opening is not followed, and a pipe doesn't block.
_WRITING = getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
# Python 3.11 lacks the name; this is its value on x86-64 and ARM64.
_MAP_NORESERVE: int = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)

_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)

_seeking = threading.Lock()


@contextlib.contextmanager
def named(path: str | Path) -> Iterator[None]:
    """Add the path to an error of the disk in the block, which names no file if it comes from an open one."""
    try:
        yield
    except OSError as error:
        if error.errno in _OF_DISK and error.filename is None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def open_regular(path: str | Path) -> int:
    """Open a regular file for reading. Pipes, sockets and devices are not opened, so the call never blocks.

    Raises:
        IsADirectoryError: The path is a folder.
        OSError: The path is something else than a regular file, or can't be opened.
    """
    check_regular(path)
    # The file could have been replaced since: without O_NONBLOCK, opening a pipe waits for a writer.
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        _check_mode(os.fstat(fd).st_mode, path)
    except BaseException:
        os.close(fd)
        raise
    return fd


def read_regular(path: str | Path, limit: int | None = None) -> bytes:
    """Return the bytes of a regular file; see `open_regular`.

    Args:
        path: Path of the file.
        limit: Largest number of bytes to read, which is checked before the first is read; None for no limit.

    Raises:
        OSError: The file can't be opened or read, or is larger than `limit`.
    """
    return read_with_status(path, limit)[0]


def read_with_status(path: str | Path, limit: int | None = None) -> tuple[bytes, os.stat_result]:
    """Return the bytes of a regular file, and its status before they were read; see `read_regular`."""
    fd = open_regular(path)
    with open(fd, "rb", buffering=0) as file:  # noqa: PTH123  # a descriptor
        status = os.fstat(fd)
        check_size(status, limit, path)
        data = file.readall()  # one call of the system reads at most 2 GiB
    if data is None:
        raise OSError(errno.EAGAIN, "the file has nothing to read yet", str(path))
    return data, status


def check_size(status: os.stat_result, limit: int | None, path: str | Path) -> None:
    """Raise an `OSError` for a file that has more than `limit` bytes; None for no limit."""
    if limit is not None and status.st_size > limit:
        raise OSError(
            errno.EFBIG, f"the file has {status.st_size:,} bytes; expected at most {limit:,}", str(path)
        )


def check_regular(path: str | Path, *, missing_ok: bool = False) -> None:
    """Raise an `OSError` for a path that is not a regular file, without opening it.

    Args:
        path: Path, whose links are followed.
        missing_ok: Whether to accept a path at which nothing exists.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116  # a Path per image would be needless work
    except FileNotFoundError:
        if missing_ok:
            return
        raise
    except ValueError as error:  # a null character, or text that no file name can hold
        raise _no_path(path, error) from None
    _check_mode(mode, path)


def broken_link(path: str | Path) -> str:
    """Return what is wrong with a link that leads to nothing, to follow its path in a message; empty for all else."""
    try:
        os.stat(path)  # noqa: PTH116  # as above
    except OSError as error:
        if not os.path.islink(path):  # noqa: PTH114
            return ""
        if error.errno == errno.ELOOP:
            return "is a link that leads back to itself"
        return f"is a link to {os.readlink(path)!r}, which doesn't exist"  # noqa: PTH115
    return ""


def resolved(path: str | Path) -> Path:
    """Return the absolute path without links. Unlike `Path.resolve`, it accepts links that form a loop.

    Raises:
        OSError: The text can't be a path.
    """
    try:
        return Path(os.path.realpath(path))
    except ValueError as error:
        raise _no_path(path, error) from None


def _no_path(path: str | Path, error: ValueError) -> OSError:
    return OSError(errno.EINVAL, f"not a path ({error})", ascii(os.fspath(path)))


def _check_mode(mode: int, path: str | Path) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        kind = next((name for test, name in _KINDS if test(mode)), "something else")
        raise OSError(errno.EINVAL, f"not a regular file but {kind}", str(path))


def open_binary(path: Path) -> int:
    """Open a regular file for reading and writing; create it if missing. Child processes don't inherit the descriptor.

    A symbolic link is refused, because writing to it would change a file elsewhere.

    Raises:
        OSError: The path is a link or something else than a regular file, or can't be opened.
    """
    _check_unlinked(path)
    check_regular(path, missing_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | _WRITING, 0o666)


def create_new(path: Path) -> None:
    """Create an empty file.

    Raises:
        FileExistsError: The path exists already, be it a link to nothing.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _WRITING, 0o666))


def open_folder(path: Path) -> int:
    """Open a folder itself, never what a link leads to (POSIX)."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)


def create_folders(path: Path) -> None:
    """Create a folder and the missing ones above it, and sync each to the disk.

    Raises:
        NotADirectoryError: A file is in the place of one of them.
        OSError: One can't be created.
    """
    missing = [each for each in (path, *path.parents) if not each.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from error
    for each in reversed(missing):
        sync_folder(each.parent)


def _check_unlinked(path: Path) -> None:
    if path.is_symlink():
        raise OSError(
            errno.ELOOP,
            "is a symbolic link, and Frostline does not write through it to another file; delete the link",
            str(path),
        )


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
    sync_folder(new.parent)


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk, where the system and the file system support it."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with named(path):
            os.fsync(fd)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    finally:
        os.close(fd)


def map_privately(fd: int, size: int) -> mmap.mmap:
    """Map a file's first `size` bytes copy-on-write: changes stay in the memory of this process."""
    if not hasattr(mmap, "PROT_READ"):  # Windows
        return mmap.mmap(fd, size, access=mmap.ACCESS_COPY)
    # Without MAP_NORESERVE, Linux refuses a private mapping larger than its memory.
    flags = mmap.MAP_PRIVATE | _MAP_NORESERVE
    return mmap.mmap(fd, size, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
