"""One POST to an address that a request named, under the rules of service/outbound.

Redirects are not followed: a receiver that has moved is told to whoever reads the log. Of an answer nothing but its
status is read.
"""

import asyncio
import ssl
from contextlib import aclosing

import httpcore

from service.core.errors import BlockedUrl
from service.core.settings import Settings
from service.outbound.destinations import Destinations, Resolver, request_url, what_failed
from service.outbound.pinned_connection import Traffic, WastefulAnswer
from service.outbound.urls import Target, parse

PARAM = "callback_url"


class WebhookSender:
    """Args:
    resolve, tls: as of Destinations.
    """

    def __init__(self, settings: Settings, resolve: Resolver | None = None, tls: ssl.SSLContext | None = None) -> None:
        self._timeout_s = settings.webhook_timeout_s
        self._destinations = Destinations(settings, PARAM, resolve, tls)

    def close(self) -> None:
        self._destinations.close()

    async def require_allowed(self, url: str) -> None:
        """Raises BlockedUrl for what would not be asked now. Each try looks again: names may lead elsewhere by then."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._destinations.addresses(parse(url, PARAM))
        except TimeoutError:
            raise BlockedUrl(f"{PARAM}: the URL's host could not be looked up in time", param=PARAM) from None

    async def post(self, url: str, body: bytes, headers: dict[str, str]) -> int | str:
        """The status of the answer, or why there is none."""
        try:
            async with asyncio.timeout(self._timeout_s):
                target = parse(url, PARAM)
                return await self._post(target, await self._destinations.addresses(target), body, headers)
        except TimeoutError:
            return f"no answer within {self._timeout_s:g} s"
        except BlockedUrl as error:
            return error.message
        except WastefulAnswer:
            return "an answer of headers without an end"
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
            return what_failed(error)

    async def _post(self, target: Target, addresses: list[str], body: bytes, headers: dict[str, str]) -> int:
        connection = await self._destinations.connection(target, addresses, Traffic())
        sent = {
            "Host": target.authority,
            "User-Agent": "viscpm-service",
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
            "Connection": "close",
            **headers,
        }
        url = request_url(target)
        async with (
            aclosing(connection),
            connection.stream("POST", url, headers=list(sent.items()), content=body) as response,
        ):
            return response.status
