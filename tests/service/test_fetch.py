"""URLs: what is connected to, and what comes of it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from service import fetch as module
from service.errors import BlockedUrl, ImageFetchFailed
from service.fetch import fetch, is_public


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "255.255.255.255", "192.0.2.1", "198.18.0.1", "::", "::1", "::ffff:127.0.0.1", "fe80::1",
        "fe80::1%eth0", "fc00::1", "64:ff9b::7f00:1", "64:ff9b::808:808", "2002:7f00:1::", "2001:0:1::", "ff02::1", "x",
    ],
)  # fmt: skip
def test_addresses_that_are_not_for_everyone(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/a.png", "http://[::1]/", "http://0x7f000001/", "http://2130706433/", "http://127.1/",
        "http://[::ffff:127.0.0.1]/", "http://169.254.169.254/latest/meta-data", "http://localhost/", "http://8.8.8.8:22/",
        "http://user:secret@8.8.8.8/", "http:///x", "https://8.8.8.8:80/",
    ],
)  # fmt: skip
async def test_blocked_urls_are_refused_before_any_connection(url: str) -> None:
    with pytest.raises(BlockedUrl) as caught:
        await fetch(url, 1000, 2.0)
    assert "127.0.0.1" not in caught.value.message and "secret" not in caught.value.message


@asynccontextmanager
async def origin(answer: bytes, hold_s: float = 0.0) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server on a loopback port that says `answer` to each request."""
    asked: list[bytes] = []
    is_over = asyncio.Event()
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())  # type: ignore[arg-type]
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        with suppress(TimeoutError):
            await asyncio.wait_for(is_over.wait(), hold_s)
        writer.write(answer)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], asked
    finally:
        is_over.set()
        server.close()
        await asyncio.gather(*serving, return_exceptions=True)


@pytest.fixture
def allow_loopback(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Lets a test reach its own origin: its port counts as 80, its address as public."""

    def allow(port: int) -> None:
        monkeypatch.setattr(module, "_PORTS", {"http": port})
        monkeypatch.setattr(module, "is_public", lambda address: address == "127.0.0.1")

    return allow


async def test_a_body_is_fetched_without_credentials_or_compression(allow_loopback: Callable[[int], None]) -> None:
    async with origin(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc") as (port, asked):
        allow_loopback(port)
        assert await fetch(f"http://127.0.0.1:{port}/a.png", 10, 2.0) == b"abc"
    head = asked[0].lower()
    assert b"cookie" not in head and b"authorization" not in head and b"accept-encoding: identity" in head


@pytest.mark.parametrize(
    ("answer", "hold_s", "message"),
    [
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n", 0, "answered 302"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 0, "answered 404"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000, 0, "more than the 1000 bytes"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000, 0, "more than the 1000 bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nx", 0, "could not be read"),
        (b"nonsense", 0, "could not be read"),
        (b"", 3.0, "took longer than"),
    ],
)
async def test_what_an_origin_may_do_wrong(
    allow_loopback: Callable[[int], None], answer: bytes, hold_s: float, message: str
) -> None:
    async with origin(answer, hold_s) as (port, _):
        allow_loopback(port)
        with pytest.raises(ImageFetchFailed, match=message):
            await fetch(f"http://127.0.0.1:{port}/a.png", 1000, 0.5)
