"""Where requests of this service may lead that somebody else named the URL of: pictures to fetch, calls back.

Covered: ports, allowed and denied hosts, names looked up once for each request, all their addresses checked, a checked
one dialled; TLS verified against the name; no proxies. Elsewhere: how a URL is read (urls.py), which addresses are
public (addresses.py). The rules are those of VISCPM_FETCH_…, whatever is asked for.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import cast

import httpcore

from service.core.errors import BlockedUrl
from service.core.settings import Settings
from service.outbound.addresses import AddressPolicy
from service.outbound.pinned_connection import PinnedBackend, Traffic
from service.outbound.urls import Target, is_below

_MAX_DIALLED = 3  # of the addresses of one name
_LOOKUP_THREADS = 4

Resolver = Callable[[str, int], Awaitable[list[str]]]


class Destinations:
    """What may be asked, as the settings say.

    Args:
        param: the request's field for the URL, which errors name.
        resolve: addresses of a name; absent: the system's resolver, in threads of its own, as it may hang.
        tls: of https; absent: certificates are verified against the system's and certifi's authorities.
    """

    def __init__(
        self, settings: Settings, param: str, resolve: Resolver | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self._settings = settings
        self._param = param
        self._policy = AddressPolicy(settings.fetch_allowed_networks, settings.fetch_denied_networks)
        self._lookups = ThreadPoolExecutor(_LOOKUP_THREADS, thread_name_prefix="lookups")
        self.resolve = resolve or self._look_up
        self._tls = tls

    async def addresses(self, target: Target) -> list[str]:
        """Addresses that may be dialled for a target: all that its host has, or none.

        Raises BlockedUrl. A name that does not exist is refused in the same words as one that leads inside: who asks
        must not learn which names there are.
        """
        settings = self._settings
        if target.port not in settings.fetch_ports:
            allowed = ", ".join(map(str, settings.fetch_ports))
            raise self._blocked(f"port {target.port} is not asked from here; allowed: {allowed}")
        is_listed = not settings.fetch_allowed_hosts or is_below(target.host, settings.fetch_allowed_hosts)
        if not is_listed or is_below(target.host, settings.fetch_denied_hosts):
            raise self._blocked("the URL's host is not asked from here")
        addresses = [target.host]
        if not target.is_address:
            try:
                addresses = await self.resolve(target.host, target.port)
            except (OSError, UnicodeError):
                addresses = []
        if not addresses or not all(map(self._policy.allows, addresses)):
            raise self._blocked("the URL does not lead to a public address")
        return addresses[:_MAX_DIALLED]

    async def connection(self, target: Target, addresses: list[str], traffic: Traffic) -> httpcore.AsyncHTTPConnection:
        """A connection for one request to a target, at these addresses of it alone. It is not open yet."""
        tls = None
        if target.scheme == "https":
            tls = self._tls or await asyncio.get_running_loop().run_in_executor(self._lookups, _authorities)
        return httpcore.AsyncHTTPConnection(
            httpcore.Origin(target.scheme.encode("ascii"), target.host.encode("ascii"), target.port),
            ssl_context=tls,
            network_backend=PinnedBackend(addresses, traffic),
        )

    def close(self) -> None:
        self._lookups.shutdown(wait=False, cancel_futures=True)

    def _blocked(self, message: str) -> BlockedUrl:
        return BlockedUrl(f"{self._param}: {message}", param=self._param)

    async def _look_up(self, host: str, port: int) -> list[str]:
        found = await asyncio.get_running_loop().run_in_executor(
            self._lookups, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return list(dict.fromkeys(cast(str, entry[4][0]) for entry in found))


def request_url(target: Target) -> httpcore.URL:
    return httpcore.URL(scheme=target.scheme, host=target.host.encode("ascii"), port=target.port, target=target.path)


def what_failed(error: Exception) -> str:
    """What went wrong with a connection, without its addresses."""
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return "its server's certificate could not be verified"
    if isinstance(error, httpcore.ConnectError):
        return "no connection to its server could be made"
    if isinstance(error, httpcore.ProtocolError):
        return "its server broke off, or did not answer in HTTP"
    return "the connection to its server broke off"


@cache
def _authorities() -> ssl.SSLContext:
    """Read once, in a thread: it takes some 30 ms."""
    return httpcore.default_ssl_context()
