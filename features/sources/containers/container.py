"""Files that hold several images, each read by its place."""

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from frostline.features.images.decoding import MAX_FILE_BYTES
from frostline.features.sources.stats import Stat, stat_fields
from frostline.system.files import open_regular


class ContainerChangedError(OSError):
    """A container that has changed since it was listed, so that the places of its images are no longer known."""


@dataclass(frozen=True, eq=False)
class Container(ABC):
    """File that holds several images, and perhaps other files. Objects are picklable, and their methods are thread-safe.

    Attributes:
        path: Absolute path of the container.
        stat: Stat of the container when it was listed.
        names: Path of each image or file in the container, with forward slashes, and not outside it.
        sizes: Size of each in bytes.
        remarks: Sentences on what the user should know of the container.
    """

    path: str
    stat: Stat
    names: Sequence[str]
    sizes: Sequence[int]
    remarks: tuple[str, ...]

    @abstractmethod
    def reopened(self) -> Self:
        """Return the container as it is now.

        Raises:
            OSError: It can't be read.
            SourceError: It is damaged.
        """

    @abstractmethod
    def _read(self, fd: int, index: int) -> bytes:
        """Return the bytes of an image, given the descriptor of the container."""

    def read(self, index: int, limit: int = MAX_FILE_BYTES) -> bytes:
        """Return the bytes of an image or file.

        Args:
            index: Index in `names`.
            limit: Largest size.

        Raises:
            ContainerChangedError: The container has changed since it was listed.
            OSError: The container can't be read or is damaged, or the image is larger than `limit`.
        """
        if self.sizes[index] > limit:
            message = f"the file has {self.sizes[index]:,} bytes; expected at most {limit:,}"
            raise OSError(errno.EFBIG, message, self.location(index))
        with self._opened() as fd:
            return self._read(fd, index)

    def close(self) -> None:
        """Release what is kept open between two images. Another image can still be read. The default does nothing."""
        return  # a method without a body would be abstract

    def location(self, index: int) -> str:
        """Return the path of the container followed by that of an image in it, for messages."""
        return f"{self.path}/{self.names[index]}"

    def file_stat(self, index: int) -> Stat:
        """Return the stat of an image: its size, and the times and number of the container."""
        return (self.sizes[index], *self.stat[1:])

    @contextmanager
    def _opened(self) -> Iterator[int]:
        fd = open_regular(self.path)
        try:
            if stat_fields(os.fstat(fd)) != self.stat:
                raise ContainerChangedError(
                    errno.EIO, "the file has changed since its images were listed", self.path
                )
            yield fd
        finally:
            os.close(fd)


@dataclass(frozen=True)
class Member:
    """Place of an image or file.

    Attributes:
        container: The container.
        index: Index in its names.
    """

    container: Container
    index: int

    @property
    def name(self) -> str:
        """Path in the container."""
        return self.container.names[self.index]

    @property
    def location(self) -> str:
        """Path of the container and path in it, for messages."""
        return self.container.location(self.index)
