"""Unfinished cache files, held by one writer at a time, and salvage files of earlier ones."""

import os
import re
from pathlib import Path
from typing import Self

from frostline.features.errors import CacheBusyError
from frostline.system.files import named, open_binary, rename, sync
from frostline.system.locks import FileLock, LockHeldError, LocksUnsupportedError

_UNFINISHED = re.compile(r"\.(partial|salvage\d+)$")


def partial_path(path: Path) -> Path:
    """Return the path at which a cache is written until it is complete."""
    return path.with_name(f"{path.name}.partial")


def finished_name(name: str) -> str:
    """Return the name of the finished cache for a partial or salvage file, or `name` itself."""
    return _UNFINISHED.sub("", name)


def salvage_paths(path: Path) -> list[Path]:
    """Return the unfinished caches of earlier image sets, kept for their rows until the cache is complete."""
    pattern = re.compile(re.escape(path.name) + r"\.salvage\d+")
    return sorted(item for item in path.parent.iterdir() if pattern.fullmatch(item.name))


def _free_salvage_path(path: Path) -> Path:
    taken = [int(item.name.rpartition(".salvage")[2]) for item in salvage_paths(path)]
    return path.with_name(f"{path.name}.salvage{max(taken, default=0) + 1}")


class PartialFile:
    """Partial file that is locked and open for writing. The lock ends with the process.

    The file is closed before it is renamed or deleted, because Windows can't rename open files, and unlocked
    afterwards.

    Attributes:
        path: Path of the file.
        fd: File descriptor; -1 after closing.
    """

    def __init__(self, path: Path, lock: FileLock, fd: int) -> None:
        self.path, self._lock, self.fd = path, lock, fd

    @classmethod
    def acquire(cls, path: Path) -> Self:
        """Lock and open the partial file, and create it if it does not exist.

        Raises:
            CacheBusyError: Another writer holds the lock.
        """
        return cls(path, *_open_locked(path))

    def clear(self) -> None:
        """Truncate the file to zero bytes."""
        with named(self.path):
            os.ftruncate(self.fd, 0)

    def is_empty(self) -> bool:
        """Return whether the file is empty, so that no cache was laid out in it."""
        return os.fstat(self.fd).st_size == 0

    def set_aside(self, final: Path) -> Path:
        """Rename the file to a salvage file of `final`, open an empty one in its place, and return the new path."""
        salvage = _free_salvage_path(final)
        self._close()
        rename(self.path, salvage)
        self._lock.release()
        self._lock, self.fd = _open_locked(self.path)
        return salvage

    def put_in_place(self, final: Path) -> None:
        """Sync the file to disk, delete the salvage files, rename it to `final` and release the lock.

        Raises:
            PermissionError: A program has a file open that would be replaced (Windows). No data is lost, and the
                file remains locked.
        """
        if self.fd >= 0:
            with named(self.path):
                sync(self.fd)
        self._close()
        try:
            # This file holds all reusable rows of the salvage files. Later, another writer might create new ones.
            for salvage in salvage_paths(final):
                salvage.unlink()
            rename(self.path, final)
        except PermissionError as error:
            raise PermissionError(
                error.errno,
                f"the new cache is complete, but can't replace the old one ({error.strerror}), because another program has it "
                "open. End that program, or close the cache in it, and run the same command again. Nothing is "
                f"recomputed; {self.path.name} is only renamed",
                str(final),
            ) from error
        self.release()

    def discard_if_empty(self) -> None:
        """Delete the file if it is empty, and release the lock."""
        if self.fd >= 0 and self.is_empty():
            self.delete()
        self.release()

    def delete(self) -> None:
        """Delete the file and release the lock."""
        self._close()
        self.path.unlink()
        self.release()

    def release(self) -> None:
        """Close the file and release the lock."""
        self._close()
        self._lock.release()

    def _close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _open_locked(path: Path) -> tuple[FileLock, int]:
    try:
        lock = FileLock.acquire(path)
    except LockHeldError as error:
        who = f"process {error.holder}" if error.holder else "another process"
        raise CacheBusyError(
            f"{path}: {who} is writing this cache; wait until it is done, or choose another file with --cache"
        ) from None
    except LocksUnsupportedError:
        if path.stat().st_size == 0:  # it was created for the lock, and no other process can lock it either
            path.unlink()
        raise
    try:
        return lock, open_binary(path)
    except BaseException:
        lock.release()
        raise
