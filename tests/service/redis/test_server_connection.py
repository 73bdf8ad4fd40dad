"""Exchanges over one connection: a real server's replies, and peers that break off or say what nobody asked."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio.connection import Connection, UnixDomainSocketConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, NoScriptError, ResponseError

from service.process.embedded_redis import EmbeddedServer
from service.redis.server_connection import ServerConnection, command_of


@asynccontextmanager
async def connected(server: EmbeddedServer, protocol: int = 3) -> AsyncIterator[ServerConnection]:
    opened = UnixDomainSocketConnection(path=str(Path(server.url.removeprefix("unix://"))), protocol=protocol)
    await opened.connect()  # type: ignore[no-untyped-call]
    connection = ServerConnection(opened, epoch=0)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def talking_to(says: bytes, waits_for: bytes = b"PING") -> AsyncIterator[ServerConnection]:
    """A peer that says something once it was asked, and closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(waits_for)
        writer.write(says)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as peer:
        host, port = peer.sockets[0].getsockname()
        opened = Connection(host=host, port=port, protocol=2, driver_info=None)
        await opened.connect()  # type: ignore[no-untyped-call]
        connection = ServerConnection(opened, epoch=0)
        try:
            yield connection
        finally:
            await connection.close()


async def test_replies_come_in_order_also_large_ones_and_errors(own_server: EmbeddedServer) -> None:
    large = b"x" * 3_000_000
    commands: list[tuple[Any, ...]] = [("SET", "k", large), ("GET", "k"), ("EVALSHA", "0" * 40, 0), ("HGET", "k", "f")]
    async with connected(own_server) as connection:
        stored, read, unknown, wrong = await connection.ask_all(commands)
        assert (stored, read) == (b"OK", large)
        assert isinstance(unknown, NoScriptError) and isinstance(wrong, ResponseError)
        assert connection.is_clean and await connection.ask("STRLEN", "k") == len(large)
        with pytest.raises(ResponseError, match="wrong kind of value"):
            await connection.ask("HGET", "k", "f")
        assert await connection.ask("PING") == b"PONG"


@pytest.mark.parametrize("protocol", [2, 3])
async def test_replies_have_the_same_shapes_in_both_protocols(own_server: EmbeddedServer, protocol: int) -> None:
    async with connected(own_server, protocol) as connection:
        await connection.ask_all([("HSET", "h", "a", 1, "b", 2), ("XADD", "s", "1-1", "f", "v")])
        assert await connection.ask("HGETALL", "h") == {b"a": b"1", b"b": b"2"}
        assert await connection.ask("XREAD", "STREAMS", "s", "0") == {b"s": [[b"1-1", [b"f", b"v"]]]}
        assert await connection.ask("XREAD", "STREAMS", "s", "1-1") is None


async def test_it_is_not_clean_while_a_reply_is_to_come(own_server: EmbeddedServer) -> None:
    async with connected(own_server) as connection:
        waiting = asyncio.create_task(connection.ask("BLPOP", "nothing", 0))
        await asyncio.sleep(0.05)
        assert not connection.is_clean
        connection.give_up(TimeoutError())
        with pytest.raises(TimeoutError):
            await waiting
        assert not connection.is_clean


async def test_who_asked_and_has_gone_is_not_told(own_server: EmbeddedServer) -> None:
    async with connected(own_server) as connection:
        waiting = asyncio.create_task(connection.ask("PING"))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0.1)
        assert connection.is_clean, "its reply came, and was nobody's"


async def test_the_servers_end_is_told_once(own_server: EmbeddedServer) -> None:
    told: list[Exception | None] = []
    async with connected(own_server) as connection:
        connection.exchange([command_of("BLPOP", "nothing", 0)], lambda reply: None, told.append)
        await asyncio.sleep(0.05)
        own_server.stop()
        await asyncio.sleep(0.1)
    assert [type(one) for one in told] == [RedisConnectionError]


async def test_a_peer_that_breaks_off_in_a_reply() -> None:
    async with talking_to(b"+PONG\r\n$10\r\nhal") as connection:
        replies: list[Any] = []
        ended: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        connection.exchange([command_of("PING"), command_of("GET", "k")], replies.append, ended.set_result)
        assert isinstance(await ended, RedisConnectionError) and replies == [b"PONG"]


@pytest.mark.parametrize("says", [b"HTTP/1.1 400 Bad Request\r\n", b"+PONG\r\n+PONG\r\n"])
async def test_a_peer_that_says_what_nobody_asked_is_left(says: bytes) -> None:
    async with talking_to(says) as connection:
        try:
            assert await connection.ask("PING") == b"PONG"
        except InvalidResponse:
            assert says.startswith(b"HTTP")
        await asyncio.sleep(0.05)
        assert not connection.is_clean


async def test_what_is_asked_of_a_connection_that_was_closed_is_told_so(own_server: EmbeddedServer) -> None:
    async with connected(own_server) as connection:
        connection._transport.close()
        with pytest.raises(RedisConnectionError):
            await asyncio.wait_for(connection.ask("PING"), 5)
        assert not connection.is_clean
