"""Calls of a screen's server: one JSON object out, one back, within a time and a size.

Covered: connections that are kept; what is the server's passing trouble (away, slow, overloaded, broken: ScreenOffline)
and what is not (UnreadableAnswer). No redirect is followed, no proxy of the environment used.
Not covered: asking again. Who waits for a verdict decides on that.
"""

import asyncio
import json
from typing import Any
from urllib.parse import urlsplit

import httpx

from safety.text.guards.adapter import UnreadableAnswer
from safety.verdict import ScreenOffline

_MAX_ANSWER_BYTES = 1 << 20
_MAX_CONNECTIONS = 32
_PASSING = (408, 409, 425, 429)  # and all from 500 on


class ServerCalls:
    """Posts to one address. `url` is that address."""

    def __init__(
        self, base: str, path: str, key: str, timeout_s: float, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.url = endpoint(base, path)
        self._timeout_s = timeout_s
        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=timeout_s,
            limits=httpx.Limits(max_connections=_MAX_CONNECTIONS),
            trust_env=False,
            transport=transport,
        )

    async def post(self, asked: dict[str, Any]) -> Any:
        """What the server answers. Raises ScreenOffline, UnreadableAnswer."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._posted(asked)
        except TimeoutError:
            raise ScreenOffline(f"{self.url} did not answer within {self._timeout_s:g} s") from None
        except httpx.HTTPError as error:
            raise ScreenOffline(f"{self.url} cannot be asked ({type(error).__name__})") from error

    async def close(self) -> None:
        await self._client.aclose()

    async def _posted(self, asked: dict[str, Any]) -> Any:
        async with self._client.stream("POST", self.url, json=asked) as response:
            if response.status_code in _PASSING or response.status_code >= 500:
                raise ScreenOffline(f"{self.url} answered with status {response.status_code}")
            if response.status_code != 200:
                raise UnreadableAnswer(f"{self.url} answered with status {response.status_code}")
            data = b""
            async for part in response.aiter_bytes():
                data += part
                if len(data) > _MAX_ANSWER_BYTES:
                    raise UnreadableAnswer(f"{self.url} answered with more than {_MAX_ANSWER_BYTES} bytes")
        try:
            return json.loads(data)
        except ValueError:
            raise UnreadableAnswer(f"{self.url} answered with {len(data)} bytes that are no JSON") from None


def endpoint(base: str, path: str) -> str:
    """The address of `path`, such as `/v1/moderations`; the base may hold the whole of it, its `/v1`, or neither."""
    base = base.rstrip("/")
    if urlsplit(base).path.endswith(path):
        return base
    return base + (path.removeprefix("/v1") if base.endswith("/v1") else path)
