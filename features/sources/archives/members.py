"""Names and bytes of the files in an archive."""

import errno
import os
from collections.abc import Iterable

from frostline.features.errors import SourceError
from frostline.system.files import read_at


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
