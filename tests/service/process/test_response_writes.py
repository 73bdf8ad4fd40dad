"""A head waits for the next write and no longer than the loop's turn; nothing is lost or put out of order."""

import asyncio

import pytest

from service.process.response_writes import HeadWithBody

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"


class Socket:
    """Takes down what is written in one go each, and where it was closed."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def writelines(self, parts: list[bytes]) -> None:
        self.writes.append(b"".join(parts))

    def close(self) -> None:
        self.writes.append(b"<closed>")

    def is_closing(self) -> bool:
        return False


@pytest.fixture
def socket() -> Socket:
    return Socket()


@pytest.fixture
async def transport(socket: Socket) -> HeadWithBody:
    return HeadWithBody(socket, asyncio.get_running_loop())  # type: ignore[arg-type]


async def test_head_and_body_are_one_write(socket: Socket, transport: HeadWithBody) -> None:
    transport.write(HEAD)
    assert socket.writes == []
    transport.write(b"body")
    assert socket.writes == [HEAD + b"body"]
    transport.write(b"more")
    await asyncio.sleep(0)
    assert socket.writes == [HEAD + b"body", b"more"]


async def test_a_head_alone_leaves_in_the_loops_next_turn(socket: Socket, transport: HeadWithBody) -> None:
    transport.write(HEAD)
    await asyncio.sleep(0)
    transport.write(b"body")
    assert socket.writes == [HEAD, b"body"]


async def test_a_body_that_looks_like_a_head_follows_its_own(socket: Socket, transport: HeadWithBody) -> None:
    transport.write(HEAD)
    transport.write(b"HTTP/")
    assert socket.writes == [HEAD + b"HTTP/"]


async def test_closing_sends_what_waits(socket: Socket, transport: HeadWithBody) -> None:
    transport.write(HEAD)
    transport.close()
    await asyncio.sleep(0)
    assert socket.writes == [HEAD, b"<closed>"] and not transport.is_closing()
