"""Messages of errors of the operating system: which path, what is wrong with it, and what to do."""

import errno
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from frostline.errors import FrostlineError

_REMEDIES: Final[Mapping[int, str]] = {
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "name a place in a folder",
    errno.EEXIST: "name another place",
    errno.EISDIR: "name a file",
    errno.EACCES: "name another place, or change the permissions",
    errno.EPERM: "name another place, or change the permissions",
    errno.EROFS: "name another place",
    errno.ENOSPC: "free some space, and run the same command again",
    errno.EDQUOT: "free some space, and run the same command again",
}


def system_message(error: BaseException) -> str:
    """Return the message of an error; of one of the system that names a path, the path first, and what to do."""
    named = getattr(error, "filename", None)
    if (
        not isinstance(error, OSError)
        or isinstance(error, FrostlineError)
        or not isinstance(named, str)
        or not named
        or not error.strerror
    ):
        return str(error)
    remedy = _REMEDIES.get(error.errno or 0, "")
    return f"{named}: {error.strerror}{_why(named, error.errno)}{f'; {remedy}' if remedy else ''}"


def _why(named: str, number: int | None) -> str:
    """Return which part of a path is missing, or is no folder; empty if it is not a part of it."""
    try:
        above = next(each for each in Path(named).parents if each.exists())
        first = Path(named)
        while first.parent != above:
            first = first.parent
    except (OSError, ValueError, StopIteration):
        return ""
    if number in {errno.ENOTDIR, errno.EEXIST, errno.ENOENT} and not above.is_dir():
        return f", because {str(above)!r} is a file"
    if number == errno.ENOENT and str(first) != named:
        return f", because {str(first)!r} doesn't exist"
    return ""
