"""Files in an archive, read by their place in it."""

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from frostline.features.errors import SourceError
from frostline.features.images.decoding import MAX_FILE_BYTES
from frostline.features.sources.stats import Stat, stat_fields
from frostline.system.files import open_regular, read_at


class ArchiveChangedError(OSError):
    """An archive that has changed since it was listed, so that the places of its files are no longer known."""


@dataclass(frozen=True, eq=False)
class Archive(ABC):
    """Files in an archive. Objects are picklable, and their methods are thread-safe.

    Attributes:
        path: Absolute path of the archive.
        stat: Stat of the archive when it was listed.
        names: Path of each file in the archive, with forward slashes, and not outside it.
        sizes: Size of each file in bytes.
    """

    path: str
    stat: Stat
    names: Sequence[str]
    sizes: Sequence[int]

    @abstractmethod
    def remarks(self) -> tuple[str, ...]:
        """Return what the user should know of the archive."""

    @abstractmethod
    def _read(self, fd: int, index: int) -> bytes:
        """Return the bytes of a file, given the descriptor of the archive."""

    def read(self, index: int, limit: int = MAX_FILE_BYTES) -> bytes:
        """Return the bytes of a file.

        Args:
            index: Index in `names`.
            limit: Largest size.

        Raises:
            ArchiveChangedError: The archive has changed since it was listed.
            OSError: The archive can't be read or is damaged, or the file is larger than `limit`.
        """
        if self.sizes[index] > limit:
            message = f"the file has {self.sizes[index]:,} bytes; expected at most {limit:,}"
            raise OSError(errno.EFBIG, message, self.location(index))
        with self._opened() as fd:
            return self._read(fd, index)

    def location(self, index: int) -> str:
        """Return the path of the archive followed by that of a file in it, for messages."""
        return f"{self.path}/{self.names[index]}"

    def file_stat(self, index: int) -> Stat:
        """Return the stat of a file: its size, and the times and number of the archive."""
        return (self.sizes[index], *self.stat[1:])

    @contextmanager
    def _opened(self) -> Iterator[int]:
        fd = open_regular(self.path)
        try:
            if stat_fields(os.fstat(fd)) != self.stat:
                raise ArchiveChangedError(
                    errno.EIO, "the archive has changed since its images were listed", self.path
                )
            yield fd
        finally:
            os.close(fd)


def read_exactly(fd: int, size: int, offset: int, where: str) -> bytes:
    """Return bytes of an archive. It raises an `OSError` if the archive ends before them."""
    if os.fstat(fd).st_size < offset + size:
        raise OSError(errno.EIO, "the archive ends within the file", where)
    return read_at(fd, size, offset)


def inner_path(name: str, archive: str) -> str:
    """Return the path of a file in an archive without a leading slash or dot.

    Raises:
        SourceError: The path leads outside the archive.
    """
    parts = [part for part in name.replace("\\", "/").split("/") if part not in {"", "."}]
    if ".." in parts or not parts or "\0" in name:
        raise SourceError(
            f"{archive}: holds a file named {name!r}, which leads outside the archive; nothing of it was read. Pack the"
            " images again, with paths below one folder"
        )
    return "/".join(parts)


def last_of_each(names: Iterable[str]) -> tuple[list[int], int]:
    """Return the indices of the last file of each name, ascending, and the number of the others.

    An archive to which a file was appended again holds several of one name, and unpacking leaves the last.
    """
    last = {name: index for index, name in enumerate(names)}
    kept = sorted(last.values())
    return kept, (kept[-1] + 1 if kept else 0) - len(kept)
