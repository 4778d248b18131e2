"""Interface of a place of remote files, and what is known of one."""

import errno
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import BinaryIO, Final, Protocol

from frostline.features.sources.stats import UNREADABLE, Stat

UNKNOWN: Final = 0
"""Version of a file of which nothing tells whether it has changed."""


@dataclass(frozen=True)
class Found:
    """What a server says of a file.

    Attributes:
        size: Size in bytes; 0 if it is not told.
        version: Number that changes with the file; `UNKNOWN` if nothing tells.
        changed: Time in nanoseconds of the last change by this machine's clock, if the version may stay the same
            when the file changes again within moments; 0 if it never does.
    """

    size: int
    version: int
    changed: int

    @property
    def stat(self) -> Stat:
        """Size and version in the form of a local file's; see `frostline.features.sources.stats`."""
        return UNREADABLE if self.size < 0 else (self.size, 0, 0, self.version)


MISSING: Final = Found(-1, UNKNOWN, 0)
"""What is known of a file that is not there."""


class Store(Protocol):
    """Place of remote files. Methods run in the event loop of this process, see `event_loop`. They fail with an `OSError`.

    An error that may pass is a `retries.PassingError`.
    """

    async def get(self, url: str, limit: int) -> tuple[bytes, Found]:
        """Return the bytes of a file, and what the server said of them. More than `limit` bytes are not read."""
        ...

    async def head(self, url: str) -> Found:
        """Return what the server says of a file; `MISSING` if it is not there."""
        ...

    def find(self, url: str) -> AsyncIterator[tuple[str, Found]]:
        """Yield the path of each file below a folder, relative to it, whose URL ends in a slash.

        Folders of their own are yielded with a slash at the end.
        """
        ...

    async def save(self, url: str, file: BinaryIO) -> Found:
        """Write the bytes of a file to an empty local one, and return what the server said of them."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


def version_of(*facts: str) -> int:
    """Return a signed 64-bit number for what a server says of a file; never `UNKNOWN`."""
    digest = hashlib.sha256("\0".join(facts).encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "little", signed=True) or 1


def check_bytes(size: int, limit: int) -> None:
    """Raise `OSError` for a file that has more bytes than any image needs."""
    if size > limit:
        raise OSError(errno.EFBIG, f"the file has {size:,} bytes; expected at most {limit:,}")
