"""Stand-ins whose clocks are wrong: a way to a real server that changes TIME's answers, an API with another Date."""

import re
import socket
import threading
import time
from contextlib import suppress
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_SECONDS = re.compile(rb"(?<=\*2\r\n\$10\r\n)\d{10}(?=\r\n\$)")


class LateRedis:
    """Passes everything on to a server at `address`, whose seconds in answers to TIME come out smaller."""

    def __init__(self, address: tuple[str, int], late_s: int) -> None:
        self._address = address
        self._late_s = late_s
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> "LateRedis":
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        # To close a socket wakes nobody who reads from it; to shut it down does
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        for one in self._sockets:
            with suppress(OSError):  # already left by the other side
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()
        for one in (self._listener, *self._sockets):
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._address)
            self._sockets += [client, server]
            for source, sink in ((client, server), (server, client)):
                thread = threading.Thread(target=self._pass_on, args=(source, sink, sink is client))
                self._threads.append(thread)
                thread.start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, is_answer: bool) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(_SECONDS.sub(self._later, data) if is_answer else data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def _later(self, found: re.Match[bytes]) -> bytes:
        return str(int(found[0]) - self._late_s).encode()


class EarlyApi(BaseHTTPRequestHandler):
    """Answers as this service's API does, an hour ahead."""

    def do_GET(self) -> None:
        body = b'{"status":"live"}'
        self.send_response_only(200)
        self.send_header("Date", formatdate(time.time() + 3600, usegmt=True))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


class ServedEarly:
    """A running EarlyApi."""

    def __enter__(self) -> int:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), EarlyApi)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self._server.server_port

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
