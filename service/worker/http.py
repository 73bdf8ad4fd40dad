"""A worker's own port: GET /metrics for Prometheus, /health/live and /health/ready for an orchestrator."""

import asyncio
import socket
from collections.abc import Callable

_READ_TIMEOUT_S = 5.0
_MAX_HEADER_BYTES = 16 * 1024


class WorkerServer:
    """A plain HTTP/1.1 server on the worker's event loop, one request a connection.

    Args:
        render: the metrics' text exposition.
        is_ready: whether the worker takes jobs.
        is_live: False where it has to be started again.
    """

    def __init__(
        self, render: Callable[[], bytes], is_ready: Callable[[], bool], is_live: Callable[[], bool] = lambda: True
    ) -> None:
        self._render = render
        self._is_ready = is_ready
        self._is_live = is_live
        self._server: asyncio.Server | None = None
        self.url = ""

    async def start(self, host: str, port: int) -> None:
        """Raises OSError when the address cannot be had."""
        self._server = await asyncio.start_server(self._answer, host, port, limit=_MAX_HEADER_BYTES)
        bound = self._server.sockets[0].getsockname()
        address = _own_address() if bound[0] in ("0.0.0.0", "::") else bound[0]
        name = f"[{address}]" if ":" in address else address
        self.url = f"http://{name}:{bound[1]}/metrics"

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_READ_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._response(head))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    def _response(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b" ")
        path = rest.split(b" ", 1)[0].split(b"?", 1)[0]
        if method != b"GET":
            return _page("405 Method Not Allowed", b"only GET is allowed\n")
        if path == b"/metrics":
            return _page("200 OK", self._render(), "text/plain; version=0.0.4; charset=utf-8")
        if path == b"/health/live":
            return _page("200 OK", b"live\n") if self._is_live() else _page("503 Service Unavailable", b"broken\n")
        if path == b"/health/ready":
            return _page("200 OK", b"ready\n") if self._is_ready() else _page("503 Service Unavailable", b"not ready\n")
        return _page("404 Not Found", b"there is /metrics, /health/live and /health/ready\n")


def _own_address() -> str:
    """Where other machines reach this one: a container's address, or its name where that leads nowhere."""
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return socket.gethostname()


def _page(status: str, body: bytes, content_type: str = "text/plain; charset=utf-8") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
