"""Stats of many files at once."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from frostline.features.sources.listing import Stat, file_stat

_THREADS = 16  # answers of a file server are waited for side by side
_CHUNK = 2_000  # files per task, so that the threads cost nothing where the files are local


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
