"""Buckets of Amazon S3, and of servers that speak its protocol, read through s3fs."""

import asyncio
import errno
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Final

import aiohttp
import s3fs
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from frostline.features.sources.remote.stores.http import (
    CONNECT_SECONDS,
    CONNECTIONS,
    IMAGE_SECONDS,
    SILENT_SECONDS,
)
from frostline.features.sources.remote.stores.retries import PASSING, PassingError
from frostline.features.sources.remote.stores.signed import SignedReader
from frostline.features.sources.remote.stores.store import MISSING, Found, Store, check_bytes, version_of

_CHUNK: Final = 1 << 20
_BUSY: Final = frozenset({"SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "Throttling"})
_NOWHERE: Final = frozenset({"NoSuchKey", "NoSuchBucket", "404", "NotFound"})


class BucketStore(Store):
    """Objects in buckets. Keys, regions and endpoints come from where Amazon's own tools find them.

    Without credentials, buckets are read as anybody may read them.
    """

    def __init__(self) -> None:
        self._client: Any = None
        self._opened = asyncio.Lock()
        self._signed: SignedReader | None = None

    async def get(self, url: str, limit: int) -> tuple[bytes, Found]:
        """Return the bytes of an object, in one request; see `Store.get`."""
        bucket, key = split(url)
        with _translated():
            client = await self._s3()
            if self._signed and (got := await self._signed.get(bucket, key, limit)):
                return got
            async with asyncio.timeout(IMAGE_SECONDS):
                answer = await client.get_object(Bucket=bucket, Key=key)
                body = answer["Body"]
                try:
                    check_bytes(answer["ContentLength"], limit)
                    data = await body.read()
                finally:
                    body.close()
        if len(data) != answer["ContentLength"]:
            raise PassingError("the connection ended before the file was complete")
        return data, _found(answer, len(data))

    async def head(self, url: str) -> Found:
        """Return what the server says of an object; see `Store.head`."""
        bucket, key = split(url)
        try:
            with _translated():
                answer = await (await self._s3()).head_object(Bucket=bucket, Key=key)
        except FileNotFoundError:
            return MISSING
        return _found(answer, answer["ContentLength"])

    async def find(self, url: str) -> AsyncIterator[tuple[str, Found]]:
        """Yield the objects whose key begins like a folder's URL; see `Store.find`."""
        bucket, prefix = split(url)
        with _translated():
            pages = (await self._s3()).get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            async for page in pages:
                for each in page.get("Contents", ()):
                    yield each["Key"][len(prefix) :], _found(each, each["Size"])

    async def save(self, url: str, file: BinaryIO) -> Found:
        """Write the bytes of an object to a local file; see `Store.save`."""
        bucket, key = split(url)
        size = 0
        with _translated():
            answer = await (await self._s3()).get_object(Bucket=bucket, Key=key)
            body = answer["Body"]
            try:
                while part := await body.read(_CHUNK):
                    size += len(part)
                    await asyncio.to_thread(file.write, part)
            finally:
                body.close()
        if size != answer["ContentLength"]:
            raise PassingError("the connection ended before the file was complete")
        return _found(answer, size)

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.close()
        if self._signed is not None:
            await self._signed.close()
        self._client = self._signed = None

    async def _s3(self) -> Any:
        """Return the client, which is made once."""
        async with self._opened:
            if self._client is None:
                self._client = await self._made(anonymous=False)
            return self._client

    async def _made(self, *, anonymous: bool) -> Any:
        # Repetitions are those of `retries`, so that they are counted and told once.
        config = {
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": SILENT_SECONDS,
            "max_pool_connections": CONNECTIONS,
            "retries": {"mode": "standard", "total_max_attempts": 1},
            # The digests of objects would be computed in the thread of all connections.
            "response_checksum_validation": "when_required",
        }
        given = {"anon": True} if anonymous else {}
        files = s3fs.S3FileSystem(
            asynchronous=True,
            skip_instance_cache=True,
            config_kwargs=config,
            use_listings_cache=False,
            **given,
        )
        client = await files.set_session()
        if not anonymous and not files.anon and await files.session.get_credentials() is None:
            await client.close()
            return await self._made(anonymous=True)
        self._signed = SignedReader(files, client)
        return client


def split(url: str) -> tuple[str, str]:
    """Return the bucket and the key of a URL."""
    bucket, _, key = url.partition("://")[2].partition("/")
    return bucket, key


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the exceptions of botocore and aiohttp into those of `Store`."""
    try:
        yield
    except ClientError as error:
        raise _of_answer(error.response) from None
    except NoCredentialsError:
        raise PermissionError(errno.EACCES, "no credentials for this bucket were found") from None
    except (BotoCoreError, aiohttp.ClientError, TimeoutError, ConnectionError) as error:
        if type(error).__name__ in {
            "ParamValidationError",
            "ProfileNotFound",
            "InvalidRegionError",
            "PartialCredentialsError",
        }:
            raise OSError(errno.EINVAL, str(error).splitlines()[0][:200]) from None
        raise PassingError(f"the connection failed ({type(error).__name__})") from None


def _of_answer(answer: Any) -> OSError:
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = str(answer.get("Error", {}).get("Code", ""))[:60]
    reason = f"HTTP {status} {code}" if not code.isdigit() else f"HTTP {status}"
    if status in PASSING or code in _BUSY:
        return PassingError(reason)
    if status in {404, 410} or code in _NOWHERE:
        return FileNotFoundError(errno.ENOENT, reason)
    if status in {401, 403}:
        return PermissionError(errno.EACCES, reason)
    return OSError(errno.EIO, reason)


def _found(answer: Any, size: int) -> Found:
    """Return what is said of an object. Its ETag is another one whenever it is written anew with other bytes."""
    return Found(size, version_of("s3", answer["ETag"].strip('"')), 0)
