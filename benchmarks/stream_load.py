"""A client of many event streams at once that costs little itself.

Run as a process of its own: `python -m benchmarks.stream_load URL STREAMS WORDS RAMP_S` opens STREAMS streams within
RAMP_S seconds, after which each is an answer of WORDS words, and prints one JSON line. Of the words those count that
were said while all streams had begun and none had ended.
"""

import asyncio
import json
import re
import sys
import time
from typing import cast
from urllib.parse import urlsplit

import uvloop

from benchmarks.http_load import quantile
from benchmarks.ticking_engine import INTERVAL_S

_WORD = re.compile(rb'"delta":"([0-9.]+) "')


class Stream(asyncio.Protocol):
    """Asks for one answer; keeps when each of its words was said and how late it came."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._rest = b""
        self._end = b""
        self.words: list[tuple[float, float]] = []  # said at, late by, in seconds
        self.status = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own is not a subclass
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now_s = time.monotonic()
        self.status = self.status or data[:12]
        received = self._rest + data
        end = 0
        for match in _WORD.finditer(received):
            said_s = float(match[1])
            self.words.append((said_s, now_s - said_s))
            end = match.end()
        self._rest = received[end:][-4096:]
        if self._rest.rstrip().endswith(b"0") and b"[DONE]" in self._rest:
            self._end = self._rest
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def fault(self, num_words: int) -> str:
        """Empty: it was answered in full."""
        if self.status != b"HTTP/1.1 200":
            return f"{self.status.decode()} {self._rest[:300].decode(errors='replace')}"
        if b"[DONE]" not in self._end or b'"error"' in self._end:
            return f"ended with {self._rest[-300:].decode(errors='replace')}"
        return "" if len(self.words) == num_words else f"{len(self.words)} words of {num_words}"


async def measure(url: str, num_streams: int, num_words: int, ramp_s: float) -> dict[str, object]:
    """Lags of the words. `client_cpu` near 1 means that this client was the limit."""
    parts = urlsplit(url)
    began_s, cpu_before_s = time.monotonic(), time.process_time()
    body = json.dumps({"question": f"{num_words} {began_s + ramp_s:.3f}", "stream": True}).encode()
    head = (
        f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    loop = asyncio.get_running_loop()
    streams = [Stream(head.encode() + body) for _ in range(num_streams)]
    for stream in streams:
        await loop.create_connection(lambda stream=stream: stream, parts.hostname, parts.port)  # type: ignore[misc]
        await asyncio.sleep(0.5 * ramp_s / num_streams)  # the rest is for the last ones to be admitted
    limit_s = ramp_s + num_words * INTERVAL_S + 60
    await asyncio.wait_for(asyncio.gather(*(stream.done for stream in streams)), limit_s)
    elapsed_s = time.monotonic() - began_s
    faults = [fault for stream in streams if (fault := stream.fault(num_words))]
    answered = [stream.words for stream in streams if stream.words]
    all_open_s = max((words[0][0] for words in answered), default=0.0)
    first_ends_s = min((words[-1][0] for words in answered), default=0.0)
    lags_s = sorted(lag_s for words in answered for said_s, lag_s in words if all_open_s <= said_s <= first_ends_s)
    return {
        "streams": num_streams,
        "events": len(lags_s),
        "all_open_s": round(first_ends_s - all_open_s, 1),
        "p50_ms": round(quantile(lags_s, 0.50) * 1000, 1),
        "p99_ms": round(quantile(lags_s, 0.99) * 1000, 1),
        "max_ms": round(quantile(lags_s, 1.0) * 1000, 1),
        "errors": len(faults),
        "first_error": faults[0] if faults else "",
        "client_cpu": round((time.process_time() - cpu_before_s) / elapsed_s, 2),
    }


if __name__ == "__main__":
    url, num_streams, num_words, ramp_s = sys.argv[1:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(measure(url, int(num_streams), int(num_words), float(ramp_s)))))
