"""Folder that keeps the bytes of remote files, within a size, for several processes.

The bytes of an image lie in ``aa/KEY``, with KEY a digest of its URL and of what the server says of it, after a digest of
the bytes. Whole archives and tables lie in ``whole/KEY``. What was used the longest time ago is deleted first. Only
files with such names are read or deleted, and links are never followed.
"""

import contextlib
import hashlib
import os
import re
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from frostline.features.content import CONTENT_BYTES, file_content
from frostline.features.errors import SourceError
from frostline.features.images.decoding import MAX_FILE_BYTES
from frostline.features.sources.remote.stores.store import UNKNOWN, Found
from frostline.features.sources.remote.urls import shown
from frostline.system.atomic import delete_unused, locked, names_in, replace_file, sweep_folder, write_file
from frostline.system.files import read_regular
from frostline.system.locks import FileLock, LocksUnsupportedError

_MARK: Final = ".frostline-byte-cache"
_LOCK: Final = ".lock"
_WHOLE: Final = "whole"
_FOLDER = re.compile(rf"[0-9a-f]{{2}}|{_WHOLE}")
_KEY = re.compile(r"[0-9a-f]{64}")
_USE = re.compile(r"([0-9a-f]{64})\.[0-9a-f]{16}\.used")
_SHARE: Final = 16  # the folder is measured again after a part of its size was written
_KEPT: Final = 0.9  # of the size, after something was deleted


@dataclass
class _File:
    path: Path
    size: int
    used: int


class ByteCache:
    """Bytes of remote files in a folder. Picklable, and its methods are thread-safe.

    Args:
        folder: The folder, created if it is missing. One that holds something else is refused.
        size: Largest size in bytes.

    Raises:
        SourceError: The folder holds something else, or can't be written.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size = Path(os.path.abspath(folder)), size  # noqa: PTH100
        self._prepare()
        self._start()

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._written = self.size  # so that the first file measures the folder

    def _prepare(self) -> None:
        try:
            if self.folder.is_dir() and any(self.folder.iterdir()) and not self._mark.is_file():
                raise SourceError(
                    f"--byte-cache: {self.folder} holds other files; expected a new or empty folder, or a byte cache"
                )
            if not self._mark.is_file():
                replace_file(self._mark, b"Files in this folder are deleted by frostline when it is full.\n")
        except OSError as error:
            raise SourceError(f"--byte-cache: {self.folder}: {error.strerror or error}") from error

    @property
    def _mark(self) -> Path:
        return self.folder / _MARK

    def read(self, url: str, found: Found) -> bytes | None:
        """Return the bytes of a file; None if they are not here, or damaged."""
        path = self._path(url, found)
        if path is None:
            return None
        try:
            if path.is_symlink():
                raise OSError  # noqa: TRY301
            stored = read_regular(path, MAX_FILE_BYTES + CONTENT_BYTES)
        except OSError:
            return None
        data = stored[CONTENT_BYTES:]
        if file_content(data) != stored[:CONTENT_BYTES]:
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return data

    def holds(self, url: str, found: Found) -> bool:
        """Return whether the bytes of a file seem to be here."""
        path = self._path(url, found)
        return path is not None and path.exists()

    def write(self, url: str, found: Found, data: bytes) -> None:
        """Keep the bytes of a file. A disk that is full, or a file larger than the cache, is no error."""
        path = self._path(url, found)
        if path is None or len(data) > self.size // 4:
            return
        with contextlib.suppress(OSError):
            self._make_room(len(data) + CONTENT_BYTES)
            # A power failure may leave it empty, which its digest tells.
            replace_file(path, file_content(data) + data, durable=False)

    @contextlib.contextmanager
    def whole(self, url: str, found: Found, save: Callable[[BinaryIO], Any]) -> Iterator[Path]:
        """Yield the path of the copy of an archive or a table, which is not deleted meanwhile.

        Args:
            url: URL of the file.
            found: What the server says of it.
            save: Function that writes its bytes to a file.

        Raises:
            SourceError: The file is larger than the cache.
            OSError: It can't be read or written.
        """
        if found.size > self.size:
            raise SourceError(
                f"{shown(url)}: has {found.size:,} bytes, and the byte cache {self.folder} may hold {self.size:,};"
                " raise --byte-cache-size"
            )
        key = _key(url, found) or os.urandom(32).hex()
        path = self.folder / _WHOLE / key
        with self._alone():
            path.parent.mkdir(exist_ok=True)
            use = _in_use(path.with_name(f"{key}.{os.urandom(8).hex()}.used"))
        try:
            if path.is_symlink() or not path.is_file() or path.stat().st_size != found.size:
                self._make_room(found.size)
                with write_file(path, durable=False) as file:
                    save(file)
                self._written += found.size
            yield path
        finally:
            if use:
                use.release(delete=True)

    def _path(self, url: str, found: Found) -> Path | None:
        key = _key(url, found)
        return None if key is None else self.folder / key[:2] / key

    def _make_room(self, size: int) -> None:
        """Delete the files that were used the longest time ago, if the cache may be full."""
        with self._lock:
            self._written += size
            if self._written < self.size // _SHARE:
                return
            self._written = 0
            with self._alone():
                self._delete_oldest(size)

    def _delete_oldest(self, size: int) -> None:
        files, used = self._files()
        whole = sum(file.size for file in files) + size
        if whole + self.size // _SHARE <= self.size:
            return
        for file in sorted(files, key=lambda file: file.used):
            if whole <= self.size * _KEPT:
                return
            if file.path.name not in used:
                with contextlib.suppress(OSError):
                    file.path.unlink()
                    whole -= file.size

    def _files(self) -> tuple[list[_File], set[str]]:
        """Return the files, and the keys of those that processes use. What killed processes left is deleted."""
        files, used = [], set()
        for folder in names_in(self.folder):
            place = self.folder / folder
            if not _FOLDER.fullmatch(folder) or not stat.S_ISDIR(place.lstat().st_mode):
                continue
            sweep_folder(place)
            for name in names_in(place):
                if use := _USE.fullmatch(name):
                    delete_unused(place / name)
                    if (place / name).exists():
                        used.add(use[1])
                elif _KEY.fullmatch(name):
                    with contextlib.suppress(OSError):
                        status = (place / name).lstat()
                        if stat.S_ISREG(status.st_mode):
                            files.append(_File(place / name, status.st_size, status.st_mtime_ns))
        return files, used

    def _alone(self) -> contextlib.AbstractContextManager[None]:
        return locked(self.folder / _LOCK, wait=True)

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs."""
        return {"folder": self.folder, "size": self.size}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Set the state of a copy in another process."""
        vars(self).update(state)
        self._start()


def _key(url: str, found: Found) -> str | None:
    """Return the name of a file in the cache; None if nothing tells when it changes."""
    if found.version == UNKNOWN:
        return None
    text = f"{shown(url)}\0{found.size}\0{found.version}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _in_use(path: Path) -> FileLock | None:
    try:
        return FileLock.acquire(path)
    except LocksUnsupportedError:
        return None
