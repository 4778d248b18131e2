"""Sizes and times of files, which tell whether they have changed."""

import os
import stat as bits
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

Stat = tuple[int, int, int, int]
"""Size of a file in bytes, times of its last modification and status change in nanoseconds, and inode number."""

UNREADABLE: Final[Stat] = (-1, -1, -1, -1)
"""Stat of a file that is missing or inaccessible. Its row is recorded as failed when it is read."""

# Windows reports no time of a status change, and no inode number when a folder is listed.
_BRIEF = os.name == "nt"

_THREADS = 16  # answers of a file server are waited for side by side
_CHUNK = 2_000  # files per task, so that the threads cost nothing where the files are local


def file_stat(path: str) -> Stat:
    """Return the stat of a file, or `UNREADABLE` if it is missing or not a regular file."""
    try:
        return regular_fields(os.stat(path)) or UNREADABLE  # noqa: PTH116  # strings are faster than paths
    except OSError:
        return UNREADABLE


def file_stats(paths: Sequence[str]) -> list[Stat]:
    """Return the stat of each file, or `UNREADABLE` if it is missing or not a regular file."""
    if len(paths) <= _CHUNK:
        return [file_stat(path) for path in paths]
    chunks = (paths[first : first + _CHUNK] for first in range(0, len(paths), _CHUNK))
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="stat") as pool:
        try:
            return [stat for stats in pool.map(_stats, chunks) for stat in stats]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _stats(paths: Sequence[str]) -> list[Stat]:
    return [file_stat(path) for path in paths]


def regular_fields(status: os.stat_result) -> Stat | None:
    """Return `stat_fields` of a regular file, None for a folder, pipe, socket or device."""
    return stat_fields(status) if bits.S_ISREG(status.st_mode) else None


def stat_fields(status: os.stat_result) -> Stat:
    """Return what identifies the state of a file."""
    if _BRIEF:
        return status.st_size, status.st_mtime_ns, 0, 0
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
