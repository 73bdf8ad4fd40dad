"""A load client that costs little itself: a fixed number of keep-alive connections, each one request at a time.

Run as a process of its own: `python -m benchmarks.http_load URL CLIENTS SECONDS BODY_FILE` prints one JSON line.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import uvloop

WARM_UP_S = 0.5


class Client(asyncio.Protocol):
    """Sends the same request over and over and notes how long each answer took."""

    def __init__(self, request: bytes, measured_from_s: float, until_s: float) -> None:
        self._request = request
        self._measured_from_s = measured_from_s
        self._until_s = until_s
        self._received = b""
        self._sent_s = 0.0
        self.latencies_s: list[float] = []
        self.num_errors = 0
        self.error = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own is not a subclass
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(body) < length:
            return
        now_s = time.perf_counter()
        if not head.startswith(b"HTTP/1.1 200"):
            self.num_errors += 1
            self.error = self._received[:500]
        elif self._sent_s >= self._measured_from_s:
            self.latencies_s.append(now_s - self._sent_s)
        self._received = b""
        if now_s < self._until_s:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def _send(self) -> None:
        self._sent_s = time.perf_counter()
        self._transport.write(self._request)


async def measure(url: str, num_clients: int, duration_s: float, body: bytes) -> dict[str, object]:
    """Requests/s and latencies after a warm-up. `client_cpu` near 1 means that this client was the limit."""
    parts = urlsplit(url)
    head = (
        f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    loop = asyncio.get_running_loop()
    measured_from_s = time.perf_counter() + WARM_UP_S
    clients = [Client(head.encode() + body, measured_from_s, measured_from_s + duration_s) for _ in range(num_clients)]
    cpu_before_s = time.process_time()
    for client in clients:
        await loop.create_connection(lambda client=client: client, parts.hostname, parts.port)  # type: ignore[misc]
    await asyncio.wait_for(asyncio.gather(*(client.done for client in clients)), duration_s + WARM_UP_S + 30)
    latencies_s = sorted(latency_s for client in clients for latency_s in client.latencies_s)
    errors = [client.error.decode(errors="replace") for client in clients if client.error]
    return {
        "clients": num_clients,
        "requests": len(latencies_s),
        "requests_per_s": round(len(latencies_s) / duration_s, 1),
        "p50_ms": round(quantile(latencies_s, 0.50) * 1000, 3),
        "p99_ms": round(quantile(latencies_s, 0.99) * 1000, 3),
        "errors": sum(client.num_errors for client in clients),
        "first_error": errors[0] if errors else "",
        "client_cpu": round((time.process_time() - cpu_before_s) / (duration_s + WARM_UP_S), 2),
    }


def quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


if __name__ == "__main__":
    url, num_clients, duration_s, body_file = sys.argv[1:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(measure(url, int(num_clients), float(duration_s), Path(body_file).read_bytes()))))
