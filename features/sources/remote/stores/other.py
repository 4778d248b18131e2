"""Any other store, through its file system of fsspec: Google Cloud Storage, the Hugging Face hub, and memory."""

import asyncio
import datetime
import errno
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Final

import fsspec

from frostline.features.errors import SourceError
from frostline.features.sources.remote.stores.http import IMAGE_SECONDS
from frostline.features.sources.remote.stores.retries import PASSING, PassingError
from frostline.features.sources.remote.stores.store import (
    MISSING,
    UNKNOWN,
    Found,
    Store,
    check_bytes,
    version_of,
)
from frostline.features.sources.remote.urls import as_folder, scheme, shown

_CHUNK: Final = 1 << 22
_PACKAGES: Final = {"gs": "gcsfs", "hf": "huggingface_hub"}

_VERSIONS: Final = ("generation", "etag", "ETag", "md5Hash", "oid", "blob_id", "xet_hash")
"""Facts that differ when a file has been written anew."""

_TIMES: Final = ("mtime", "updated", "LastModified", "last_modified", "created")


class OtherStore(Store):
    """Files of one file system of fsspec. Its methods run in threads, because not all file systems have others.

    Args:
        url: A URL of the store.
    """

    def __init__(self, url: str) -> None:
        self._files = _file_system(url)

    async def get(self, url: str, limit: int) -> tuple[bytes, Found]:
        """Return the bytes of a file, after asking for its size; see `Store.get`."""
        got: tuple[bytes, Found] = await _in_thread(lambda: self._get(url, limit), IMAGE_SECONDS)
        return got

    async def head(self, url: str) -> Found:
        """Return what is known of a file; see `Store.head`."""
        try:
            found: Found = await _in_thread(lambda: self._info(url), IMAGE_SECONDS)
        except FileNotFoundError:
            return MISSING
        return found

    async def find(self, url: str) -> AsyncIterator[tuple[str, Found]]:
        """Yield the files below a folder; see `Store.find`."""
        root = as_folder(self._files._strip_protocol(url))  # noqa: SLF001  # as fsspec's documentation does
        found = await _in_thread(lambda: self._files.find(url.rstrip("/"), withdirs=True, detail=True), None)
        for path, info in found.items():
            below = path.removeprefix(root)
            if info["type"] == "directory":
                if below and below != path:
                    yield as_folder(below), MISSING
            elif below != path:
                yield below, _found(info)

    async def save(self, url: str, file: BinaryIO) -> Found:
        """Write the bytes of a file to a local one; see `Store.save`."""
        found: Found = await _in_thread(lambda: self._save(url, file), None)
        return found

    async def close(self) -> None:
        """Forget what was listed."""
        self._files.invalidate_cache()

    def _info(self, url: str) -> Found:
        self._files.invalidate_cache()
        return _found(self._files.info(url))

    def _get(self, url: str, limit: int) -> tuple[bytes, Found]:
        found = self._info(url)
        check_bytes(found.size, limit)
        data: bytes = self._files.cat_file(url)
        if found.size and len(data) != found.size:
            raise PassingError(f"got {len(data):,} bytes of {found.size:,}")
        return data, found

    def _save(self, url: str, file: BinaryIO) -> Found:
        found = self._info(url)
        with self._files.open(url, "rb", block_size=_CHUNK, cache_type="readahead") as stream:
            while part := stream.read(_CHUNK):
                file.write(part)
        return found


def _file_system(url: str) -> Any:
    kind = scheme(url)
    try:
        return fsspec.filesystem(kind, skip_instance_cache=kind != "memory", use_listings_cache=False)
    except ImportError as error:
        package = _PACKAGES.get(kind, kind)
        raise SourceError(
            f"{shown(url)}: reading {kind}:// needs {package}; install it with: pip install {package}"
        ) from error


async def _in_thread(call: Callable[[], Any], seconds: float | None) -> Any:
    with _translated():
        return await asyncio.wait_for(asyncio.to_thread(call), seconds)


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the exceptions of file systems into those of `Store`."""
    try:
        yield
    except (FileNotFoundError, PermissionError, IsADirectoryError, PassingError):
        raise
    except TimeoutError:
        raise PassingError("the server did not answer in time") from None
    except Exception as error:  # of any library
        status = _status(error)
        reason = f"HTTP {status}" if status else f"the request failed ({type(error).__name__})"
        if status in {404, 410} or type(error).__name__.endswith("NotFoundError"):
            raise FileNotFoundError(errno.ENOENT, reason) from None
        if status in {401, 403}:
            raise PermissionError(errno.EACCES, reason) from None
        if (
            status in PASSING
            or (not status and isinstance(error, ConnectionError))
            or "Connect" in type(error).__name__
        ):
            raise PassingError(reason) from None
        if isinstance(error, OSError) and error.errno:
            raise
        raise OSError(errno.EIO, reason) from None


def _status(error: Exception) -> int:
    """Return the status of HTTP that an exception of a library holds; 0 for none."""
    found = (
        getattr(error, "status", None)
        or getattr(getattr(error, "response", None), "status_code", None)
        or getattr(error, "code", None)
    )
    return int(found) if isinstance(found, int) or (isinstance(found, str) and found.isdigit()) else 0


def _found(info: Any) -> Found:
    size = int(info.get("size") or 0)
    fact = next((info[name] for name in (*_VERSIONS, *_TIMES) if info.get(name)), None)
    if fact is None:
        return Found(size, UNKNOWN, time.time_ns())
    if isinstance(fact, datetime.datetime):
        fact = fact.timestamp()
    return Found(size, version_of("fs", str(fact)), 0)
