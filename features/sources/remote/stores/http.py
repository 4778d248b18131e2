"""Web servers as stores, read through aiohttp, which fsspec uses as well."""

import asyncio
import errno
import os
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.request import getproxies

import aiohttp
from yarl import URL

from frostline.features.errors import SourceError
from frostline.features.sources.remote.stores.addresses import GuardedResolver, InternalAddressError
from frostline.features.sources.remote.stores.retries import PASSING, PassingError
from frostline.features.sources.remote.stores.store import (
    MISSING,
    UNKNOWN,
    Found,
    Store,
    check_bytes,
    version_of,
)
from frostline.features.sources.remote.urls import WEB, shown

CONNECTIONS: Final = 32
"""Connections to one store."""

CONNECT_SECONDS: Final = 15
SILENT_SECONDS: Final = 60  # without a byte
IMAGE_SECONDS: Final = 600  # for one image, however slowly its bytes come

_REDIRECTIONS: Final = 10
_CHUNK: Final = 1 << 20
_REFUSES_HEAD: Final = frozenset({400, 401, 403, 405, 501})
_GONE: Final = frozenset({404, 410})


class WebStore(Store):
    """Files on web servers.

    Redirections are followed by hand: they lead to web servers only, and never from https to http. Answers are not
    compressed, so that a stated size is that of the file.

    Args:
        named: Hosts that the user has named, which may lie inside a network.
    """

    def __init__(self, named: Collection[str]) -> None:
        self._resolver = GuardedResolver(named)
        self._session: aiohttp.ClientSession | None = None

    async def get(self, url: str, limit: int) -> tuple[bytes, Found]:
        """Return the bytes of a file; see `Store.get`."""
        async with self._answer("GET", url, IMAGE_SECONDS) as answer:
            data = await read_within(answer, limit)
            return data, _found(answer, len(data))

    async def head(self, url: str) -> Found:
        """Return what the server says of a file. One that does not answer such requests says nothing."""
        try:
            async with self._answer("HEAD", url, IMAGE_SECONDS) as answer:
                return _found(answer, answer.content_length or 0)
        except FileNotFoundError:
            return MISSING
        except _RefusedError:
            return Found(0, UNKNOWN, time.time_ns())

    def find(self, url: str) -> AsyncIterator[tuple[str, Found]]:
        """Refuse, because web servers list no folders."""
        raise SourceError(
            f"{shown(url)}: a web server has no folders to list; expected the URL of a manifest (.csv, .tsv, .jsonl,"
            " .parquet), of an archive (.tar, .zip) or of a table of images"
        )

    async def save(self, url: str, file: BinaryIO) -> Found:
        """Write the bytes of a file to a local one; see `Store.save`."""
        async with self._answer("GET", url, None) as answer:
            size = 0
            async for part in answer.content.iter_chunked(_CHUNK):
                size += len(part)
                await asyncio.to_thread(file.write, part)
            return _found(answer, size)

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @asynccontextmanager
    async def _answer(
        self, method: str, url: str, seconds: float | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Yield the answer to a request, after redirections."""
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS, sock_read=SILENT_SECONDS)
        place = _parsed(url)
        try:
            for _ in range(_REDIRECTIONS):
                self._resolver.check_literal(place.host or "")
                session = self._opened()
                async with session.request(method, place, timeout=timeout, allow_redirects=False) as answer:
                    if answer.status in {301, 302, 303, 307, 308}:
                        place = _next(place, answer.headers.get("Location", ""))
                        continue
                    check_status(answer)
                    yield answer
                    return
        except InternalAddressError as error:
            raise OSError(errno.EACCES, str(error)) from None
        except aiohttp.ClientConnectorCertificateError:
            raise OSError(errno.EPERM, "the certificate of the server is not valid") from None
        except TimeoutError:
            raise PassingError("the server did not answer in time") from None
        except aiohttp.ClientPayloadError:
            raise PassingError("the connection ended before the file was complete") from None
        except aiohttp.ClientConnectorDNSError as error:
            internal = _internal(error)
            raise internal or PassingError("the name of the server can't be resolved") from None
        except aiohttp.InvalidURL:
            raise OSError(errno.EINVAL, "not a valid URL") from None
        except (aiohttp.ClientError, ConnectionError) as error:
            raise PassingError(f"the connection failed ({type(error).__name__})") from None
        raise OSError(errno.ELOOP, f"the server redirects more than {_REDIRECTIONS} times")

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=CONNECTIONS, resolver=self._resolver, ttl_dns_cache=300)
            # Proxies of the environment and passwords of ~/.netrc take a thread per request, so only if there are any.
            self._session = aiohttp.ClientSession(
                connector=connector,
                trust_env=bool(getproxies()) or _netrc().exists(),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept-Encoding": "identity"},
            )
        return self._session


def _netrc() -> Path:
    return Path(os.environ.get("NETRC") or Path("~/.netrc").expanduser())


class _RefusedError(PermissionError):
    """A status that says that the request is not allowed."""


def _parsed(url: str) -> URL:
    """Return a URL as it is written if it is valid, so that its signature stays valid, else quoted."""
    plain = url.isascii() and not any(character <= " " or character in '"<>\\^`{|}' for character in url)
    try:
        return URL(url, encoded=plain)
    except ValueError:
        raise OSError(errno.EINVAL, "not a valid URL") from None


def _next(place: URL, location: str) -> URL:
    try:
        target = place.join(URL(location))
    except ValueError:
        target = URL()
    if target.scheme not in WEB:
        raise OSError(
            errno.EACCES, f"the server redirects to {shown(location)!r}, which is not a web server's file"
        )
    if place.scheme == "https" and target.scheme == "http":
        raise OSError(errno.EACCES, "the server redirects from https to http, which is not followed")
    return target


def _internal(error: BaseException) -> OSError | None:
    """Return the refusal of an internal address that is the cause of another error."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, InternalAddressError):
        cause = getattr(cause, "os_error", None) or cause.__cause__
    return None if cause is None else OSError(errno.EACCES, str(cause))


async def read_within(answer: aiohttp.ClientResponse, limit: int) -> bytes:
    """Return the body of an answer. It raises an `OSError` for one that has more bytes than `limit`, or says so."""
    stated = answer.content_length
    check_bytes(stated or 0, limit)
    if stated is not None:
        return await answer.read()  # never more than was stated
    parts, size = [], 0
    async for part in answer.content.iter_chunked(_CHUNK):
        size += len(part)
        check_bytes(size, limit)
        parts.append(part)
    return b"".join(parts)


def check_status(answer: aiohttp.ClientResponse) -> None:
    """Raise the error of a status of HTTP that is no success."""
    status = answer.status
    if 200 <= status < 300:
        return
    reason = f"HTTP {status} {answer.reason or ''}".strip()[:80]
    if status in PASSING:
        raise PassingError(reason, _retry_after(answer.headers.get("Retry-After", "")))
    if status in _GONE:
        raise FileNotFoundError(errno.ENOENT, reason)
    if status in _REFUSES_HEAD:
        raise _RefusedError(errno.EACCES, reason)
    raise OSError(errno.EIO, reason)


def _retry_after(text: str) -> float:
    return float(text) if text.isascii() and text.isdigit() else 0.0


def _found(answer: aiohttp.ClientResponse, size: int) -> Found:
    headers = answer.headers
    tag, modified = headers.get("ETag", ""), headers.get("Last-Modified", "")
    if not tag and not modified:
        return Found(size, UNKNOWN, time.time_ns())
    return Found(size, version_of("web", tag, modified), _local_time(modified, headers.get("Date", "")))


def _local_time(modified: str, date: str) -> int:
    """Return when a file was changed by the clock of this machine, in nanoseconds; 0 if the server doesn't say."""
    now = time.time()
    changed = _seconds(modified)
    if changed is None:
        return 0
    told = _seconds(date)
    return int((changed if told is None else now - (told - changed)) * 1e9)


def _seconds(date: Any) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
