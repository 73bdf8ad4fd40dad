"""Bounds on what stands before a request's body: uvicorn's own protocol takes a head of any size, in any time."""

import asyncio
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.process.response_writes import HeadWithBody


class BoundedHeads(HttpToolsProtocol):
    """A request line with its headers arrives within `max_head_bytes` and `head_timeout_s`, or the connection ends.

    The time runs from a connection's first moment, and from the first byte of each later request.
    """

    max_head_bytes: ClassVar[int] = 64 * 1024
    head_timeout_s: ClassVar[float] = 10.0

    _timeout: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _has_completed = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(HeadWithBody(transport, self.loop))  # type: ignore[arg-type]
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._has_completed = False
        super().data_received(data)
        if self._timeout is None or self._has_completed:  # the head is whole, or some of these bytes were not its own
            return
        self._head_bytes += len(data)
        if self._head_bytes > self.max_head_bytes and not self.transport.is_closing():
            self.send_400_response(f"Request head of more than {self.max_head_bytes} bytes.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._timeout is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._has_completed = True
        super().on_message_complete()

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._timeout = self.loop.call_later(self.head_timeout_s, self._end_slow_head)

    def _end_slow_head(self) -> None:
        if not self.transport.is_closing():
            self.send_400_response(f"Request head not complete after {self.head_timeout_s:g} s.")

    def _stop_waiting(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None
