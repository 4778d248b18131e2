"""Addresses of web servers: those inside a network are asked only if the user has named them."""

import ipaddress
import socket
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver


class InternalAddressError(OSError):
    """An address inside a network, at a host that the user has not named."""


class GuardedResolver(AbstractResolver):
    """Resolver of host names that gives no internal address of a host that the user has not named.

    Args:
        named: Names of hosts, in lower case.
    """

    def __init__(self, named: Collection[str]) -> None:
        self._named = {*named, *_proxies()}
        self._resolver = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a host.

        Raises:
            OSError: The host is unknown, or has an internal address.
        """
        found = await self._resolver.resolve(host, port, family)
        if host.lower() not in self._named:
            for each in found:
                _check(each["host"], host)
        return found

    async def close(self) -> None:
        """Close the resolver."""
        await self._resolver.close()

    def check_literal(self, host: str) -> None:
        """Raise `InternalAddressError` for a host that is an internal address itself, which is not resolved."""
        if host.lower() not in self._named:
            _check(host, host)


def _check(address: str, host: str) -> None:
    try:
        found: Any = ipaddress.ip_address(address.strip("[]").partition("%")[0])
    except ValueError:
        return  # a name
    found = getattr(found, "ipv4_mapped", None) or found
    if not found.is_global or found.is_multicast:
        raise InternalAddressError(
            f"{host} has the address {address} inside a network, and only a manifest or a redirection names it"
        )


def _proxies() -> set[str]:
    found = {urlsplit(url if "://" in url else f"http://{url}").hostname for url in getproxies().values()}
    return {host.lower() for host in found if host}
