"""Exclusive lock of a file or folder. The system releases it when the process ends for any reason."""

import contextlib
import errno
import os
import weakref
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from filelock import lock_descriptor, unlock_descriptor

from frostline.system.files import open_binary, open_folder

# POSIX locks are advisory. Windows also blocks access to the locked bytes, so a separate file is locked there.
_ADVISORY = find_spec("fcntl") is not None

_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


class LockHeldError(Exception):
    """A lock that another process or another lock object already holds.

    Attributes:
        holder: Id of the process that holds the lock; None where the system doesn't report it.
    """

    def __init__(self, path: Path, holder: int | None) -> None:
        self.holder = holder
        super().__init__(f"{path}: {self.who} has locked it")

    @property
    def who(self) -> str:
        """The holder, for messages."""
        return f"process {self.holder}" if self.holder else "another process"


class LocksUnsupportedError(OSError):
    """The file system doesn't support locks."""


class FileLock:
    """Exclusive lock on a file or folder.

    The lock is `flock` on the file or folder itself, or ``LockFileEx`` on ``NAME.lock`` next to it on Windows. Child
    processes don't inherit the lock, whether forked or spawned.
    """

    def __init__(self, path: Path, fd: int) -> None:
        self._path, self._fd = path, fd
        _held.add(self)

    @classmethod
    def acquire(cls, path: Path, *, folder: bool = False, wait: bool = False) -> Self:
        """Lock a file, which is created if it is missing, or a folder.

        Args:
            path: The file or folder. A link is not followed.
            folder: Whether it is a folder.
            wait: Whether to wait while another process holds the lock.

        Raises:
            LockHeldError: The file is already locked.
            LocksUnsupportedError: The file system doesn't support locks.
            OSError: The file can't be opened.
        """
        path = path if _ADVISORY else path.with_name(f"{path.name}.lock")
        while True:
            fd = open_folder(path) if folder and _ADVISORY else open_binary(path)
            try:
                _lock(fd, path, wait=wait)
            except BaseException:
                os.close(fd)
                raise
            if _is_at(fd, path):  # not renamed or deleted between opening and locking
                return cls(path, fd)
            os.close(fd)

    def release(self, *, delete: bool = False) -> None:
        """Release the lock. Repeated calls are allowed.

        Args:
            delete: Whether to delete the file, which has no other use than to be locked.
        """
        if self._fd < 0:
            return
        if (
            delete and _ADVISORY
        ):  # while it is locked, so that no other process takes a file that is then deleted
            self._path.unlink(missing_ok=True)
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


def _lock(fd: int, path: Path, *, wait: bool) -> None:
    try:
        locked = lock_descriptor(fd, blocking=wait, poll_interval=0.01)
    except OSError as error:
        message = f"{path}: can't be locked; choose a folder on a file system with locks"
        if error.errno in _UNSUPPORTED:
            unsupported = LocksUnsupportedError(*error.args)
            unsupported.add_note(message)
            raise unsupported from error
        error.add_note(message)
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
