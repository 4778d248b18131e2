"""Connections of one source to its stores, used from any thread."""

import asyncio
import contextlib
import os
import threading
import time
import weakref
from collections import Counter
from collections.abc import Collection, Coroutine
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeVar

from frostline.features.errors import SourceError
from frostline.features.images.decoding import MAX_FILE_BYTES
from frostline.features.sources.remote.access import Access, Teller
from frostline.features.sources.remote.stores.event_loop import THREAD, event_loop
from frostline.features.sources.remote.stores.retries import persistently
from frostline.features.sources.remote.stores.store import UNKNOWN, Found, Store
from frostline.features.sources.remote.urls import WEB, check_scheme, host_of, is_url, key_of, scheme, shown

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")

_HEADS: Final = 64  # requests at once
_GIVEN_UP: Final = 3  # failures of a server after which it is not asked about other files
_CLOSING_SECONDS: Final = 5.0
_INSTALL: Final = (
    "reading URLs needs fsspec, s3fs and aiohttp; install them with: pip install 'frostline[remote]'"
)


class Connections:
    """Connections to stores, opened on demand. Picklable: a copy in another process opens its own.

    Args:
        access: How data are read.
        named: Hosts that the user has named, which may lie inside a network.
    """

    def __init__(self, access: Access, named: Collection[str]) -> None:
        self._access, self._named = access, frozenset(named)
        self._start()

    def _start(self) -> None:
        self._stores: dict[str, Store] = {}
        self._process = os.getpid()
        self._lock = threading.Lock()
        self.tell = Teller(self._access.tell)
        self._end = weakref.finalize(self, _close_all, self._stores, self._process)

    def submit(self, url: str, limit: int = MAX_FILE_BYTES) -> "Future[tuple[bytes, Found]]":
        """Begin to read a file, and return the future of its bytes and what is said of them."""
        return self._submitted(self._get(url, limit))

    def get(self, url: str, limit: int = MAX_FILE_BYTES) -> tuple[bytes, Found]:
        """Return the bytes of a file, and what is said of them.

        Raises:
            OSError: The file is missing, larger than `limit`, or can't be read.
        """
        return finished(self.submit(url, limit))

    def heads(self, urls: Collection[str]) -> list[Found]:
        """Return what servers say of files; `store.MISSING` for those that are not there.

        Of a server that can't be reached nothing is known, and it is soon not asked any more.

        Raises:
            OSError: No server can be reached.
        """
        return self.run(self._heads(urls))

    def find(self, url: str, most: int | None = None) -> list[tuple[str, Found]] | None:
        """Return the path of each file below a folder; None if there are more than `most`."""
        return self.run(self._find(url, most))

    def save(self, url: str, file: BinaryIO) -> Found:
        """Write a file to an empty local one, and return what is said of it."""
        return self.run(self._save(url, file))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of a coroutine that runs in the event loop of this process."""
        return finished(self._submitted(work))

    def close(self) -> None:
        """Close all connections. They are opened again when they are needed."""
        _close_all(self._stores, self._process)

    async def _get(self, url: str, limit: int) -> tuple[bytes, Found]:
        store = self._store(url)
        return await persistently(lambda: store.get(url, limit), _place(url), self.tell)

    async def _save(self, url: str, file: BinaryIO) -> Found:
        store = self._store(url)

        async def attempt() -> Found:
            file.seek(0)
            file.truncate()
            return await store.save(url, file)

        return await persistently(attempt, _place(url), self.tell)

    async def _find(self, url: str, most: int | None) -> list[tuple[str, Found]] | None:
        store = self._store(url)

        async def attempt() -> list[tuple[str, Found]] | None:
            found: list[tuple[str, Found]] = []
            async for each in store.find(url):
                found.append(each)
                if most is not None and len(found) > most:
                    return None
            return found

        return await persistently(attempt, _place(url), self.tell)

    async def _heads(self, urls: Collection[str]) -> list[Found]:
        waiting = iter(enumerate(urls))
        found: dict[int, Found] = {}
        failed: Counter[str] = Counter()
        errors: list[OSError] = []
        failing: list[str] = []

        async def take() -> None:
            for index, url in waiting:
                if failed[host_of(url)] < _GIVEN_UP:
                    try:
                        found[index] = await self._head(url)
                        continue
                    except OSError as error:
                        failed[host_of(url)] += 1
                        errors.append(error)
                        failing.append(shown(url))
                found[index] = Found(0, UNKNOWN, time.time_ns())  # its row says why when it is read

        await asyncio.gather(*(take() for _ in range(min(_HEADS, len(urls)))))
        if errors and all(each.version == UNKNOWN and each.size == 0 for each in found.values()):
            raise OSError(errors[0].errno, errors[0].strerror or str(errors[0]), failing[0])
        return [found[index] for index in range(len(urls))]

    async def _head(self, url: str) -> Found:
        store = self._store(url)
        return await persistently(lambda: store.head(url), _place(url), self.tell)

    def _store(self, url: str) -> Store:
        kind = "web" if scheme(url) in WEB else scheme(url)
        with self._lock:
            if kind not in self._stores:
                self._stores[kind] = _opened(kind, url, self._named)
            return self._stores[kind]

    def _submitted(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        if self._process != os.getpid():  # after a fork, which copies no thread
            self._start()
        return asyncio.run_coroutine_threadsafe(work, event_loop())

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs to open connections of its own."""
        return {"_access": self._access, "_named": self._named}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Set the state of a copy in another process."""
        vars(self).update(state)
        self._start()


def finished(future: "Future[T]") -> T:
    """Return the result of work in the event loop, which ends when the wait for it is interrupted."""
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def _opened(kind: str, url: str, named: Collection[str]) -> Store:
    check_scheme(url)
    try:
        if kind == "web":
            from frostline.features.sources.remote.stores.http import WebStore

            return WebStore(named)
        if kind == "s3":
            from frostline.features.sources.remote.stores.s3 import BucketStore

            return BucketStore()
        from frostline.features.sources.remote.stores.other import OtherStore
    except ImportError as error:
        raise SourceError(f"{shown(url)}: {_INSTALL}") from error
    return OtherStore(url)


def _close_all(stores: dict[str, Store], process: int) -> None:
    """Close the stores of this process. What collects garbage in the event loop does not wait for it."""
    opened = [*stores.values()]
    stores.clear()
    if not opened or process != os.getpid():
        return
    closing = asyncio.run_coroutine_threadsafe(_close(opened), event_loop())
    if threading.current_thread().name != THREAD:
        with contextlib.suppress(TimeoutError):
            closing.result(_CLOSING_SECONDS)


async def _close(stores: Collection[Store]) -> None:
    for store in stores:
        with contextlib.suppress(Exception):  # a connection that is lost anyway
            await store.close()


def _place(url: str) -> str:
    return f"{host_of(url) or scheme(url)}/{key_of(url)}"


def fetch(url: str, root: str) -> bytes:
    """Return the bytes of one image, over connections of its own.

    Args:
        url: URL of the image.
        root: URL or path that the user named.

    Raises:
        OSError: The image is missing or can't be read.
    """
    connections = Connections(Access(), {host_of(root if is_url(root) else url)})
    try:
        return connections.get(url)[0]
    finally:
        connections.close()
