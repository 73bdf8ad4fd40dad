"""Heads that never end, in size or in time, against a real server."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator

import pytest
import uvicorn
from fastapi import FastAPI

from service.process.request_heads import BoundedHeads

BODY = b"x" * 300_000


class Impatient(BoundedHeads):
    head_timeout_s = 0.4


@pytest.fixture
async def server() -> AsyncIterator[uvicorn.Server]:
    app = FastAPI()

    @app.post("/length")
    async def length(body: dict[str, str]) -> int:
        return len(body["text"])

    server = uvicorn.Server(uvicorn.Config(app, port=0, http=Impatient, log_config=None, lifespan="off"))
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 (uvicorn has no event for it)
        await asyncio.sleep(0.01)
    yield server
    server.should_exit = True
    await serving


@pytest.fixture
def port(server: uvicorn.Server) -> int:
    port: int = server.servers[0].sockets[0].getsockname()[1]
    return port


async def told(port: int, *parts: bytes, pause_s: float = 0.0) -> tuple[bytes, float]:
    """What the server says until it hangs up, and after how long."""
    started_s = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause_s)
        return await asyncio.wait_for(reader.read(), 10), time.monotonic() - started_s
    except ConnectionResetError:
        return b"reset", time.monotonic() - started_s
    finally:
        writer.close()


def request(close: bool, headers: bytes = b"") -> bytes:
    body = b'{"text": "' + BODY + b'"}'
    connection = b"close" if close else b"keep-alive"
    return (
        b"POST /length HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: %b\r\n%b"
        b"Content-Length: %d\r\n\r\n%b" % (connection, headers, len(body), body)
    )


async def test_large_bodies_and_sensible_heads_pass(port: int) -> None:
    answer, _ = await told(port, request(close=True, headers=b"X-Long: " + b"a" * 30_000 + b"\r\n"))
    assert answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"300000")


async def test_requests_in_a_row_are_counted_apart(port: int) -> None:
    answer, _ = await told(port, request(close=False) + request(close=False), request(close=True))
    assert answer.count(b"HTTP/1.1 200") == 3


async def test_a_head_without_end_is_cut_off(port: int) -> None:
    answer, elapsed_s = await told(port, b"GET / HTTP/1.1\r\nX-Long: ", *[b"a" * 40_000] * 4)
    assert b"400" in answer and b"Request head of more than 65536 bytes." in answer or answer == b"reset"
    assert elapsed_s < 0.4


async def test_many_headers_without_end_are_cut_off(port: int) -> None:
    answer, _ = await told(port, b"GET / HTTP/1.1\r\n", *[b"X-A: b\r\n" * 5000] * 4)
    assert b"Request head of more than 65536 bytes." in answer or answer == b"reset"


@pytest.mark.slow
async def test_a_slow_head_is_given_up(port: int) -> None:
    answer, elapsed_s = await told(port, b"GET / HT", b"TP/1.1\r\n", b"X-A: b\r\n", pause_s=0.15)
    assert b"Request head not complete after 0.4 s." in answer
    assert 0.35 < elapsed_s < 3


@pytest.mark.slow
async def test_a_connection_that_says_nothing_is_given_up(port: int) -> None:
    _, elapsed_s = await told(port)
    assert elapsed_s < 3


@pytest.mark.slow
async def test_a_second_head_has_its_own_time(port: int) -> None:
    answer, elapsed_s = await told(port, request(close=False), b"GET / HT", pause_s=0.3)
    assert answer.startswith(b"HTTP/1.1 200") and b"Request head not complete" in answer
    assert elapsed_s > 0.6


@pytest.mark.slow
async def test_a_connection_that_says_nothing_hears_nothing(port: int) -> None:
    answer, _ = await told(port)
    assert answer == b""


@pytest.mark.parametrize("has_come_in", [True, False])
async def test_an_idle_connection_is_closed_unless_a_request_has_come_in(
    server: uvicorn.Server, port: int, has_come_in: bool
) -> None:
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(client, request(close=False))
        assert b"200" in await loop.sock_recv(client, 4096)
        [protocol] = server.server_state.connections
        assert isinstance(protocol, BoundedHeads)
        if has_come_in:
            client.send(b"POST /length HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            time.sleep(0.05)  # noqa: ASYNC251 (the loop has to be busy: it sees none of that yet)
        protocol.timeout_keep_alive_handler()
        answer = await asyncio.wait_for(loop.sock_recv(client, 4096), 5)
        assert answer.startswith(b"HTTP/1.1 422") if has_come_in else answer == b""
