"""The unfinished file that one writer at a time may hold, and what is set aside of earlier ones."""

import os
import re
from pathlib import Path
from typing import Self

from frostline.features.errors import CacheBusyError
from frostline.features.system.files import open_binary, rename, sync
from frostline.features.system.locks import FileLock, LockHeldError

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

    It is renamed and deleted closed, and only then unlocked: Windows renames no open file.

    Attributes:
        path: Where it is.
        fd: Its descriptor; -1 once it is closed.
    """

    def __init__(self, path: Path, lock: FileLock, fd: int) -> None:
        self.path, self._lock, self.fd = path, lock, fd

    @classmethod
    def acquire(cls, path: Path) -> Self:
        """Lock and open the partial file, and create it if it does not exist.

        Raises:
            CacheBusyError: Another writer has it.
        """
        return cls(path, *_open_locked(path))

    def clear(self) -> None:
        """Forget what is in it."""
        os.ftruncate(self.fd, 0)

    def is_empty(self) -> bool:
        """Whether nothing was ever laid out in it."""
        return os.fstat(self.fd).st_size == 0

    def set_aside(self, final: Path) -> Path:
        """Rename it to a salvage of `final`, and start an empty one in its place; returns where it is now."""
        salvage = _free_salvage_path(final)
        self._close()
        rename(self.path, salvage)
        self._lock.release()
        self._lock, self.fd = _open_locked(self.path)
        return salvage

    def put_in_place(self, final: Path) -> None:
        """Rename it to `final`, on the disk for good, delete the salvages, and let go of it.

        Raises:
            PermissionError: A program has a file open that would be replaced, which Windows doesn't allow. Nothing is lost,
                and it is still locked.
        """
        if self.fd >= 0:
            sync(self.fd)
        self._close()
        try:
            # All that is wanted of the salvaged files is in this one; later, another writer might have made new ones.
            for salvage in salvage_paths(final):
                salvage.unlink()
            rename(self.path, final)
        except PermissionError as error:
            raise PermissionError(
                error.errno,
                f"the new cache is complete, but can't take the place of the old one ({error.strerror}): a program that "
                "reads it keeps it open. End that program, or close the cache in it, and run the same command again: "
                f"nothing is computed again, {self.path.name} is only renamed",
                str(final),
            ) from error
        self.release()

    def discard_if_empty(self) -> None:
        """Let go of it, and delete it if nothing was ever laid out in it."""
        if self.fd >= 0 and self.is_empty():
            self.delete()
        self.release()

    def delete(self) -> None:
        """Delete it, and let go of it."""
        self._close()
        self.path.unlink()
        self.release()

    def release(self) -> None:
        """Let go of it."""
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
    try:
        return lock, open_binary(path)
    except BaseException:
        lock.release()
        raise
