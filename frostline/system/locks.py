"""Exclusive file lock. The system releases it when the process ends for any reason."""

import contextlib
import os
import weakref
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from filelock import lock_descriptor, unlock_descriptor

from frostline.system.files import open_binary

# POSIX locks are advisory. Windows also blocks access to the locked bytes, so a separate file is locked there.
_ADVISORY = find_spec("fcntl") is not None


class LockHeldError(Exception):
    """A lock that another process or another lock object already holds.

    Attributes:
        holder: Id of the process that holds the lock; None where the system doesn't report it.
    """

    def __init__(self, path: Path, holder: int | None) -> None:
        super().__init__(f"{path}: {f'process {holder}' if holder else 'another process'} has locked it")
        self.holder = holder


class FileLock:
    """Exclusive lock on a file.

    The lock is `flock` on the file itself, or ``LockFileEx`` on ``NAME.lock`` next to it on Windows. Child
    processes don't inherit the lock, whether forked or spawned.
    """

    def __init__(self, path: Path, fd: int) -> None:
        self._path, self._fd = path, fd
        _held.add(self)

    @classmethod
    def acquire(cls, path: Path) -> Self:
        """Lock a file; create it if missing.

        Raises:
            LockHeldError: The file is already locked.
            OSError: The file can't be opened, or its file system doesn't support locks.
        """
        path = path if _ADVISORY else path.with_name(f"{path.name}.lock")
        while True:
            fd = open_binary(path)
            try:
                _lock(fd, path)
            except BaseException:
                os.close(fd)
                raise
            if _is_at(fd, path):  # not renamed or deleted between opening and locking
                return cls(path, fd)
            os.close(fd)

    def release(self) -> None:
        """Release the lock. Repeated calls are allowed."""
        if self._fd < 0:
            return
        # A forked child may hold the descriptor too, so closing ours would not be enough.
        unlock_descriptor(self._fd)
        self._close()
        if not _ADVISORY:
            with contextlib.suppress(OSError):  # the next holder has it open
                self._path.unlink()

    def _close(self) -> None:
        os.close(self._fd)
        self._fd = -1


_held: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _close_in_child() -> None:
    # A data-loading worker that outlives its killed parent must not keep the lock.
    for lock in list(_held):
        if lock._fd >= 0:  # noqa: SLF001  # same module
            lock._close()  # noqa: SLF001  # same module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


def _lock(fd: int, path: Path) -> None:
    try:
        locked = lock_descriptor(fd, blocking=False)
    except OSError as error:
        error.add_note(f"{path}: can't be locked; choose a folder on a file system with locks")
        raise
    if not locked:
        raise LockHeldError(path, _holder(fd))


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _holder(fd: int) -> int | None:
    """Return the id of the process that holds a lock on a file, where the kernel reports it (Linux)."""
    try:
        locks = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    inode = str(os.fstat(fd).st_ino)
    # A line is: number, kind, ADVISORY, access, pid, major:minor:inode, start, end.
    for kind, pid, file in ((f[1], f[4], f[5]) for f in map(str.split, locks) if len(f) == 8):
        if kind == "FLOCK" and file.rpartition(":")[2] == inode and int(pid) > 0:
            return int(pid)
    return None
