"""The unfinished file that one writer at a time may hold, and what is set aside of earlier ones."""

import fcntl
import os
import re
import weakref
from pathlib import Path
from typing import Self

from features.cache.disk import rename
from features.errors import CacheBusyError

__all__ = ["PartialFile", "finished_name", "partial_path", "salvage_paths"]

_UNFINISHED = re.compile(r"\.(partial|salvage\d+)$")


def partial_path(path: Path) -> Path:
    """Where a cache is written until it is complete."""
    return path.with_name(f"{path.name}.partial")


def finished_name(name: str) -> str:
    """Name of the cache that a partial or salvaged file is to become, or `name` itself."""
    return _UNFINISHED.sub("", name)


def salvage_paths(path: Path) -> list[Path]:
    """Unfinished caches of earlier image sets, kept for their rows until the cache is complete."""
    pattern = re.compile(re.escape(path.name) + r"\.salvage\d+")
    return sorted(item for item in path.parent.iterdir() if pattern.fullmatch(item.name))


def _free_salvage_path(path: Path) -> Path:
    taken = [int(item.name.rpartition(".salvage")[2]) for item in salvage_paths(path)]
    return path.with_name(f"{path.name}.salvage{max(taken, default=0) + 1}")


class PartialFile:
    """A partial file, open for writing and locked; the lock goes with the process, however that ends.

    Attributes:
        path: Where it is.
        fd: Its descriptor.
    """

    def __init__(self, path: Path, fd: int) -> None:
        self.path, self.fd = path, fd
        _held.add(self)

    @classmethod
    def acquire(cls, path: Path) -> Self:
        """Open the partial file, made empty where there is none, and lock it.

        Raises:
            CacheBusyError: Another writer has it.
        """
        return cls(path, _open_locked(path))

    def clear(self) -> None:
        """Forget what is in it."""
        os.ftruncate(self.fd, 0)

    def is_empty(self) -> bool:
        """Whether nothing was ever laid out in it."""
        return os.fstat(self.fd).st_size == 0

    def set_aside(self, final: Path) -> None:
        """Rename it to a salvage of `final`, and start an empty one in its place."""
        rename(self.path, _free_salvage_path(final))
        self.release()
        self.fd = _open_locked(self.path)

    def discard_if_empty(self) -> None:
        """Let go of it, and delete it if nothing was ever laid out in it."""
        if self.fd >= 0 and self.is_empty():
            self.delete()
        self.release()

    def delete(self) -> None:
        """Delete it, and let go of it."""
        self.path.unlink()
        self.release()

    def release(self) -> None:
        """Let go of it."""
        if self.fd >= 0:
            # A forked child may hold the descriptor too, so closing ours would not be enough.
            fcntl.flock(self.fd, fcntl.LOCK_UN)
            self._close()

    def _close(self) -> None:
        os.close(self.fd)
        self.fd = -1


_held: weakref.WeakSet[PartialFile] = weakref.WeakSet()


def _close_in_child() -> None:
    # A data-loading worker that outlives its killed parent must not keep the lock.
    for partial in list(_held):
        if partial.fd >= 0:
            partial._close()  # noqa: SLF001  # same module


os.register_at_fork(after_in_child=_close_in_child)


def _open_locked(path: Path) -> int:
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = _busy_message(path, os.fstat(fd).st_ino)
            os.close(fd)
            raise CacheBusyError(message) from None
        except OSError as error:
            os.close(fd)
            error.add_note(f"{path}: can't be locked; write the cache to a file system with locks")
            raise
        if _is_at(fd, path):  # and not renamed or deleted between opening and locking
            return fd
        os.close(fd)


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _busy_message(path: Path, inode: int) -> str:
    pid = _holder(inode)
    who = f"process {pid}" if pid else "another process"
    return f"{path}: {who} is writing this cache; wait until it is done, or choose another file with --cache"


def _holder(inode: int) -> int | None:
    """Process that holds a lock on a file, where the kernel tells (Linux)."""
    try:
        locks = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    # A line is: number, kind, ADVISORY, access, pid, major:minor:inode, start, end.
    for kind, pid, place in ((f[1], f[4], f[5]) for f in map(str.split, locks) if len(f) == 8):
        if kind == "FLOCK" and place.rpartition(":")[2] == str(inode) and int(pid) > 0:
            return int(pid)
    return None
