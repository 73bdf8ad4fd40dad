"""Pictures from http(s) URLs: GET requests to checked addresses.

Covered: redirects, checked like the first URL, at most 3, none from https to http; no credentials, cookies or
compression; a byte cap while reading, one deadline for all of it. What may be asked at all: service/outbound.
Loaded only where fetching is on.
"""

import asyncio
import ssl
from contextlib import aclosing

import httpcore

from service.core.errors import ImageFetchFailed
from service.core.settings import Settings
from service.outbound.destinations import Destinations, Resolver, request_url, what_failed
from service.outbound.pinned_connection import Traffic, WastefulAnswer
from service.outbound.urls import Target, parse, redirected

MAX_REDIRECTS = 3
_REDIRECTS = (301, 302, 303, 307, 308)


class Fetcher:
    """Fetches pictures as the settings allow.

    Args:
        resolve, tls: as of Destinations.
    """

    def __init__(self, settings: Settings, resolve: Resolver | None = None, tls: ssl.SSLContext | None = None) -> None:
        self._settings = settings
        self.destinations = Destinations(settings, "image", resolve, tls)

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
        except WastefulAnswer as error:
            raise ImageFetchFailed(f"image: the URL's server sends {error}", param="image") from None
        except TimeoutError:
            raise ImageFetchFailed(f"image: the URL took longer than {timeout_s:g} s to fetch", param="image") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
            raise ImageFetchFailed(f"image: the URL could not be read: {what_failed(error)}", param="image") from None

    def close(self) -> None:
        self.destinations.close()

    async def _follow(self, target: Target) -> bytes:
        for _ in range(MAX_REDIRECTS + 1):
            answer = await self._get(target, await self.destinations.addresses(target))
            if not isinstance(answer, Target):
                return answer
            target = answer
        raise ImageFetchFailed(f"image: the URL redirects more than {MAX_REDIRECTS} times", param="image")

    async def _get(self, target: Target, addresses: list[str]) -> bytes | Target:
        """The body, or where the answer redirects to."""
        traffic = Traffic()
        connection = await self.destinations.connection(target, addresses, traffic)
        headers: dict[bytes | str, bytes | str] = {
            "Host": target.authority,
            "User-Agent": "viscpm-service",
            "Accept": "image/*",
            "Accept-Encoding": "identity",  # a compressed body could grow past the cap in one read
            "Connection": "close",
        }
        async with aclosing(connection), connection.stream("GET", request_url(target), headers=headers) as response:
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
