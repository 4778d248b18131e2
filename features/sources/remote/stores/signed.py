"""Reading of objects by signed requests of one kind, which cost a small part of the processor time of botocore's.

botocore finds the address of a bucket, the region and the keys. Its signature is that of version 4, with the same code.
"""

import os
import re
import ssl
from typing import Any, Final
from urllib.parse import quote
from urllib.request import getproxies

import aiohttp
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from yarl import URL

from frostline.features.sources.remote.stores.http import (
    CONNECT_SECONDS,
    CONNECTIONS,
    IMAGE_SECONDS,
    SILENT_SECONDS,
    check_status,
    read_within,
)
from frostline.features.sources.remote.stores.retries import PASSING
from frostline.features.sources.remote.stores.store import Found, version_of

_PLAIN: Final = re.compile(r"[a-z0-9][a-z0-9.-]+[a-z0-9]")  # neither an access point nor a directory bucket
_TIMEOUT: Final = aiohttp.ClientTimeout(
    total=IMAGE_SECONDS, sock_connect=CONNECT_SECONDS, sock_read=SILENT_SECONDS
)


class SignedReader:
    """Reader of objects.

    Args:
        files: File system of s3fs, which is connected.
        client: Its client.
    """

    def __init__(self, files: Any, client: Any) -> None:
        self._files, self._client = files, client
        self._places: dict[
            str, str
        ] = {}  # address of each bucket, empty for one that must be read by botocore
        self._session: aiohttp.ClientSession | None = None
        self._serves = not (
            files.req_kw or files.s3_additional_kwargs or files.client_kwargs.get("verify") is not None
        )

    async def get(self, bucket: str, key: str, limit: int) -> tuple[bytes, Found] | None:
        """Return the bytes of an object, and what is said of it; None if botocore must read it, or say why it can't be."""
        place = await self._place(bucket) if self._serves else ""
        if not place or {".", ".."} & {*key.split("/")}:  # which clients of HTTP take out
            return None
        try:
            return await self._got(place + quote(key, safe="/~"), bucket, limit)
        except aiohttp.ClientSSLError:
            self._places[bucket] = ""
            return None

    async def _got(self, url: str, bucket: str, limit: int) -> tuple[bytes, Found] | None:
        async with self._opened().get(
            URL(url, encoded=True), headers=await self._headers(url), allow_redirects=False, timeout=_TIMEOUT
        ) as answer:
            if answer.status not in PASSING and (answer.status != 200 or "ETag" not in answer.headers):
                if answer.status not in {403, 404}:  # which concern one object, perhaps
                    self._places[bucket] = ""
                return None
            check_status(answer)
            data = await read_within(answer, limit)
            return data, Found(len(data), version_of("s3", answer.headers["ETag"].strip('"')), 0)

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _place(self, bucket: str) -> str:
        """Return the address of a bucket with a slash at its end."""
        if bucket not in self._places:
            found = ""
            if _PLAIN.fullmatch(bucket) and not bucket.endswith("--x-s3"):
                signed = await self._client.generate_presigned_url(
                    "get_object", Params={"Bucket": bucket, "Key": "k"}
                )
                found = signed.partition("?")[0].removesuffix("k")
            self._places[bucket] = found
        return self._places[bucket]

    async def _headers(self, url: str) -> dict[str, str]:
        request = AWSRequest("GET", url, headers={"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"})
        if not self._files.anon:
            keys = await self._files.session.get_credentials()
            S3SigV4Auth(
                await keys.get_frozen_credentials(), "s3", self._client.meta.region_name or "us-east-1"
            ).add_auth(request)
        return {**dict(request.headers.items()), "Accept-Encoding": "identity"}

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=CONNECTIONS, ttl_dns_cache=300, ssl=_certificates()),
                trust_env=bool(getproxies()),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


def _certificates() -> ssl.SSLContext | bool:
    """Return the certificates that botocore trusts; True for those of the system."""
    bundle = os.environ.get("AWS_CA_BUNDLE") or os.environ.get("REQUESTS_CA_BUNDLE")
    return ssl.create_default_context(cafile=bundle) if bundle else True
