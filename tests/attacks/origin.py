"""A hostile web server: each path is another way to hurt who fetches from it."""

import gzip
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import parse_qs, unquote, urlsplit

from tests.attacks.files import photo, png_flat, saved

_PATIENCE_S = 60.0  # of a connection that nobody cuts
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n"

Answer = Callable[["_Handler", dict[str, str]], None]


class Origin(socketserver.ThreadingTCPServer):
    """Counts the requests that it had."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int = 0) -> None:
        super().__init__((host, port), _Handler)
        self.requests = 0
        self.is_over = threading.Event()

    @property
    def url(self) -> str:
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Who is attacked hangs up: that is as it should be."""


@contextmanager
def serving(host: str, port: int = 0) -> Iterator[Origin]:
    with Origin(host, port) as origin:
        thread = threading.Thread(target=origin.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield origin
        finally:
            origin.is_over.set()
            origin.shutdown()
            thread.join()


class _Handler(socketserver.StreamRequestHandler):
    server: Origin

    def handle(self) -> None:
        line = self.rfile.readline(65_536).decode("latin-1")
        while self.rfile.readline(65_536) not in (b"\r\n", b""):
            pass
        if not line.startswith("GET "):
            return
        self.server.requests += 1
        parts = urlsplit(line.split(" ")[1])
        query = {name: unquote(values[0]) for name, values in parse_qs(parts.query).items()}
        with suppress(OSError):
            _ANSWERS[parts.path](self, query)

    def send(self, data: bytes) -> None:
        self.request.sendall(data)

    def whole(self, body: bytes, *fields: bytes) -> None:
        self.send(_HEAD + b"".join(f + b"\r\n" for f in fields) + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    def redirect(self, location: str, status: int = 302) -> None:
        fields = f"HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"
        self.send(fields.encode())

    def drip(self, data: bytes) -> None:
        for byte in data:
            self.send(bytes([byte]))
            if self.server.is_over.wait(0.05):
                return

    def for_ever(self, piece: bytes) -> None:
        ends_s = time.monotonic() + _PATIENCE_S
        while time.monotonic() < ends_s and not self.server.is_over.is_set():
            self.send(piece)

    def reset(self) -> None:
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.request.close()


def _hang(handler: _Handler, _: dict[str, str]) -> None:
    handler.server.is_over.wait(_PATIENCE_S)


def _chain(handler: _Handler, query: dict[str, str]) -> None:
    left = int(query["left"])
    handler.redirect(f"/chain?left={left - 1}" if left else "/picture")


_PICTURE = saved(photo(), "PNG")
_MIB = bytes(1 << 20)
_BOMB = gzip.compress(_MIB * 16)

_ANSWERS: dict[str, Answer] = {
    "/picture": lambda handler, _: handler.whole(_PICTURE),
    "/picture-as-text": lambda handler, _: handler.send(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(_PICTURE) + _PICTURE
    ),
    "/redirect": lambda handler, query: handler.redirect(query["to"], int(query.get("status", "302"))),
    "/chain": _chain,
    "/loop": lambda handler, _: handler.redirect("/loop"),
    "/status": lambda handler, query: handler.send(
        f"HTTP/1.1 {query['is']} X\r\nContent-Length: 0\r\n\r\n".encode(),
    ),
    "/hang": _hang,
    "/drip-head": lambda handler, _: handler.drip(_HEAD * 100),
    "/drip-body": lambda handler, _: (handler.send(_HEAD + b"Content-Length: 9999\r\n\r\n"), handler.drip(b"x" * 9999))[
        1
    ],
    "/endless": lambda handler, _: (handler.send(_HEAD + b"\r\n"), handler.for_ever(_MIB))[1],
    "/endless-chunks": lambda handler, _: (
        handler.send(_HEAD + b"Transfer-Encoding: chunked\r\n\r\n"),
        handler.for_ever(b"100000\r\n" + _MIB + b"\r\n"),
    )[1],
    "/crumbs": lambda handler, _: (
        handler.send(_HEAD + b"Transfer-Encoding: chunked\r\n\r\n"),
        handler.for_ever(b"1\r\nx\r\n" * 10_000),
    )[1],
    "/informational": lambda handler, _: handler.for_ever(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000),
    "/endless-head": lambda handler, _: (handler.send(_HEAD), handler.for_ever(b"X-More: y\r\n" * 1000))[1],
    "/long-line": lambda handler, _: handler.for_ever(b"x" * 65_536),
    "/claims-a-gigabyte": lambda handler, _: handler.send(_HEAD + b"Content-Length: 1000000000\r\n\r\n"),
    "/claims-2^70": lambda handler, _: handler.send(_HEAD + b"Content-Length: %d\r\n\r\n" % 2**70),
    "/claims-too-much": lambda handler, _: handler.send(_HEAD + b"Content-Length: 9999\r\n\r\n" + _PICTURE),
    "/claims-less-than-nothing": lambda handler, _: handler.send(_HEAD + b"Content-Length: -1\r\n\r\n" + _PICTURE),
    "/claims-twice": lambda handler, _: handler.send(
        _HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n" + _PICTURE,
    ),
    "/claims-too-little": lambda handler, _: handler.send(_HEAD + b"Content-Length: 20\r\n\r\n" + _PICTURE),
    "/chunk-of-terabytes": lambda handler, _: handler.send(
        _HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 12 + b"\r\n" + _PICTURE,
    ),
    "/chunk-size-of-junk": lambda handler, _: handler.send(
        _HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + _PICTURE
    ),
    "/gzip": lambda handler, _: handler.whole(_BOMB, b"Content-Encoding: gzip"),
    "/deflate": lambda handler, _: handler.whole(b"x", b"Content-Encoding: deflate"),
    "/gzip-unsaid": lambda handler, _: handler.whole(gzip.compress(_PICTURE)),
    "/html": lambda handler, _: handler.whole(b"<html><img src='http://127.0.0.1/'></html>"),
    "/svg": lambda handler, _: handler.whole(
        b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"Content-Type: image/svg+xml"
    ),
    "/bomb": lambda handler, _: handler.whole(png_flat(50_000, 50_000, 1, 0)),
    "/cut-off": lambda handler, _: handler.whole(_PICTURE[: len(_PICTURE) // 2]),
    "/nothing": lambda handler, _: handler.whole(b""),
    "/silence": lambda handler, _: None,
    "/nonsense": lambda handler, _: handler.send(b"\x16\x03\x01\x02\x00 nonsense\r\n\r\n"),
    "/reset": lambda handler, _: handler.reset(),
}
