"""Pictures from http(s) URLs: GET requests to checked addresses.

Covered: strict URLs, ports, allowed and denied hosts; names looked up once for each request, all their addresses
checked, a checked one dialled; redirects checked alike, at most 3, none from https to http; TLS verified against the
name; no credentials, cookies, proxies or compression; a byte cap while reading, one deadline for all of it.
Loaded only where fetching is on.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import cache
from typing import cast

import httpcore

from service.core.errors import BlockedUrl, ImageFetchFailed
from service.core.settings import Settings
from service.image_input.addresses import AddressPolicy
from service.image_input.pinned_connection import PinnedBackend, Traffic
from service.image_input.urls import Target, is_below, parse, redirected

MAX_REDIRECTS = 3
_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_DIALLED = 3  # of the addresses of one name
_LOOKUP_THREADS = 4

Resolver = Callable[[str, int], Awaitable[list[str]]]


class Fetcher:
    """Fetches pictures as the settings allow.

    Args:
        resolve: addresses of a name; absent: the system's resolver, in threads of its own, as it may hang.
        tls: of https; absent: certificates are verified against the system's and certifi's authorities.
    """

    def __init__(self, settings: Settings, resolve: Resolver | None = None, tls: ssl.SSLContext | None = None) -> None:
        self._settings = settings
        self._policy = AddressPolicy(settings.fetch_allowed_networks, settings.fetch_denied_networks)
        self._lookups = ThreadPoolExecutor(_LOOKUP_THREADS, thread_name_prefix="lookups")
        self.resolve = resolve or self._look_up
        self._tls = tls

    async def fetch(self, url: str) -> bytes:
        """The body behind a URL.

        Raises:
            BlockedUrl: a URL that the service does not connect to, itself or after a redirect.
            ImageFetchFailed: its server gave no body within the limits of size and time.
        """
        timeout_s = self._settings.fetch_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                return await self._follow(parse(url))
        except TimeoutError:
            raise ImageFetchFailed(f"image: the URL took longer than {timeout_s:g} s to fetch", param="image") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
            raise ImageFetchFailed(f"image: the URL could not be read: {_what(error)}", param="image") from None

    def close(self) -> None:
        self._lookups.shutdown(wait=False, cancel_futures=True)

    async def _follow(self, target: Target) -> bytes:
        for _ in range(MAX_REDIRECTS + 1):
            answer = await self._get(target, await self._addresses(target))
            if not isinstance(answer, Target):
                return answer
            target = answer
        raise ImageFetchFailed(f"image: the URL redirects more than {MAX_REDIRECTS} times", param="image")

    async def _addresses(self, target: Target) -> list[str]:
        """Addresses that may be dialled for a target: all that its host has, or none.

        Raises BlockedUrl. A name that does not exist is refused in the same words as one that leads inside: who asks
        must not learn which names there are.
        """
        settings = self._settings
        if target.port not in settings.fetch_ports:
            allowed = ", ".join(map(str, settings.fetch_ports))
            raise BlockedUrl(f"image: port {target.port} is not fetched from; allowed: {allowed}", param="image")
        is_listed = not settings.fetch_allowed_hosts or is_below(target.host, settings.fetch_allowed_hosts)
        if not is_listed or is_below(target.host, settings.fetch_denied_hosts):
            raise BlockedUrl("image: pictures are not fetched from the URL's host", param="image")
        addresses = [target.host]
        if not target.is_address:
            try:
                addresses = await self.resolve(target.host, target.port)
            except (OSError, UnicodeError):
                addresses = []
        if not addresses or not all(map(self._policy.allows, addresses)):
            raise BlockedUrl("image: the URL does not lead to a public address", param="image")
        return addresses[:_MAX_DIALLED]

    async def _get(self, target: Target, addresses: list[str]) -> bytes | Target:
        """The body, or where the answer redirects to."""
        tls = None
        if target.scheme == "https":
            tls = self._tls or await asyncio.get_running_loop().run_in_executor(self._lookups, _authorities)
        host, traffic = target.host.encode("ascii"), Traffic()
        connection = httpcore.AsyncHTTPConnection(
            httpcore.Origin(target.scheme.encode("ascii"), host, target.port),
            ssl_context=tls,
            network_backend=PinnedBackend(addresses, traffic),
        )
        url = httpcore.URL(scheme=target.scheme, host=host, port=target.port, target=target.path)
        headers: dict[bytes | str, bytes | str] = {
            "Host": target.authority,
            "User-Agent": "viscpm-service",
            "Accept": "image/*",
            "Accept-Encoding": "identity",  # a compressed body could grow past the cap in one read
            "Connection": "close",
        }
        async with aclosing(connection), connection.stream("GET", url, headers=headers) as response:
            fields = {name.lower(): value for name, value in response.headers}
            if response.status in _REDIRECTS and b"location" in fields:
                return redirected(target, fields[b"location"])
            self._check(response.status, fields)
            return await self._body(response, traffic)

    def _check(self, status: int, fields: dict[bytes, bytes]) -> None:
        if status != 200:
            raise ImageFetchFailed(f"image: the URL's server answered {status}, 200 is needed", param="image")
        if fields.get(b"content-encoding", b"identity").lower() != b"identity":
            raise ImageFetchFailed(
                "image: the URL's server answered with a compressed body, one without Content-Encoding was asked for",
                param="image",
            )
        declared = fields.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > self._settings.max_body_bytes:
            raise self._too_long()

    async def _body(self, response: httpcore.Response, traffic: Traffic) -> bytes:
        data = bytearray()
        async for piece in response.aiter_stream():
            data += piece
            traffic.body_bytes = len(data)
            if len(data) > self._settings.max_body_bytes:
                raise self._too_long()
        return bytes(data)

    def _too_long(self) -> ImageFetchFailed:
        return ImageFetchFailed(
            f"image: the URL holds more than the {self._settings.max_body_bytes} bytes allowed", param="image"
        )

    async def _look_up(self, host: str, port: int) -> list[str]:
        found = await asyncio.get_running_loop().run_in_executor(
            self._lookups, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return list(dict.fromkeys(cast(str, entry[4][0]) for entry in found))


def _what(error: Exception) -> str:
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
