"""TCP connections to addresses that were checked before, whatever host the HTTP layer above asks for.

TLS stays with the name: it is verified against the host of the request, not against the address dialled. What an
origin sends beside the body (informational answers, headers, chunk sizes) is bounded: each piece costs the event loop
more than it costs the origin.
"""

# ruff: noqa: ASYNC109 (the timeouts are the interface's)

import ssl
from collections.abc import Iterable, Sequence
from typing import Any

import httpcore

_READ_BYTES = 16_384  # what is parsed without a pause for other requests
_OVERHEAD_BYTES = 131_072
_OVERHEAD_OF_BODY = 8  # one byte more for so many of the body


class WastefulAnswer(Exception):
    """What comes is not what was asked for; the message says how much of it."""


class Traffic:
    """Bytes of one answer: all that came, and those of its body."""

    def __init__(self) -> None:
        self.received_bytes = 0
        self.body_bytes = 0

    def receive(self, count_bytes: int) -> None:
        """Raises WastefulAnswer where too little of what comes is the body."""
        self.received_bytes += count_bytes
        overhead_bytes = (
            self.received_bytes - self.body_bytes - _READ_BYTES
        )  # a read's worth is not counted as body yet
        if overhead_bytes > _OVERHEAD_BYTES + self.body_bytes // _OVERHEAD_OF_BODY:
            raise WastefulAnswer(
                f"more around the body than of it: {overhead_bytes} bytes for {self.body_bytes} of the body"
            )


class PinnedBackend(httpcore.AsyncNetworkBackend):
    """Dials `addresses` in turn until one answers."""

    def __init__(self, addresses: Sequence[str], traffic: Traffic) -> None:
        self._addresses = addresses
        self._traffic = traffic
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        for address in self._addresses[:-1]:
            try:
                return _CountedStream(await self._inner.connect_tcp(address, port, timeout), self._traffic)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return _CountedStream(await self._inner.connect_tcp(self._addresses[-1], port, timeout), self._traffic)


class _CountedStream(httpcore.AsyncNetworkStream):
    def __init__(self, inner: httpcore.AsyncNetworkStream, traffic: Traffic) -> None:
        self._inner = inner
        self._traffic = traffic

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = await self._inner.read(min(max_bytes, _READ_BYTES), timeout)
        self._traffic.receive(len(data))
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        return _CountedStream(await self._inner.start_tls(ssl_context, server_hostname, timeout), self._traffic)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
