"""Bounds on what stands before a request's body: uvicorn's own protocol takes a head of any size, in any time.

And what else its protocol does to clients of the field: it drops the body behind an offer of another protocol, sends
chunks to HTTP/1.0, and closes an idle connection over a request that has come in meanwhile.
"""

import asyncio
import fcntl
import struct
import termios
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.process.request_parser import OfferlessParser
from service.process.response_writes import HeadWithBody
from service.process.unframed_response import UnframedResponse


class BoundedHeads(HttpToolsProtocol):
    """A request line with its headers arrives within `max_head_bytes` and `head_timeout_s`, or the connection ends.

    The time runs from a connection's first moment, and from the first byte of each later request. A connection on which
    nothing was ever said ends without a word: what it heard would be taken for the answer to its first request.
    """

    max_head_bytes: ClassVar[int] = 64 * 1024
    head_timeout_s: ClassVar[float] = 10.0

    parser: OfferlessParser  # type: ignore[assignment]  # uvicorn makes httptools' own before there is a transport
    _timeout: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _has_completed = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(HeadWithBody(transport, self.loop))  # type: ignore[arg-type]
        self.parser = OfferlessParser(self)
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
        if self.parser.is_offer:
            return
        self._stop_waiting()
        super().on_headers_complete()
        if self.scope["http_version"] == "1.0":
            UnframedResponse.adopt(self.cycle)

    def on_message_complete(self) -> None:
        if self.parser.is_offer:
            return
        self._has_completed = True
        super().on_message_complete()

    def timeout_keep_alive_handler(self) -> None:
        if self.transport.is_closing() or self._has_unread():
            return  # what came in while the loop was busy is a request, and will be read next
        super().timeout_keep_alive_handler()

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._timeout = self.loop.call_later(self.head_timeout_s, self._end_slow_head)

    def _end_slow_head(self) -> None:
        if self.transport.is_closing():
            return
        if self.cycle is None and not self._head_bytes:
            self.transport.close()
        else:
            self.send_400_response(f"Request head not complete after {self.head_timeout_s:g} s.")

    def _stop_waiting(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None

    def _has_unread(self) -> bool:
        """Whether the system holds bytes of the client that the loop has not seen yet."""
        try:
            waiting = fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.FIONREAD, b"\0" * 4)
        except OSError:  # the connection is gone
            return False
        return bool(struct.unpack("i", waiting)[0])
