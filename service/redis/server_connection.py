"""One open connection to a server: commands go out as one piece, and their replies come to who asked, all at once.

redis-py opens the connection (address, TLS, credentials, protocol). From then on no task and no stream stands between
the socket and its parser: an exchange costs a quarter of what it does through them.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from hiredis import PushNotification, Reader, pack_command
from redis._parsers.base import BaseParser
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse

Address = tuple[str, int]
Argument = bytes | str | int | float

_NOTHING_YET = object()


class Command(NamedTuple):
    """As it is sent. `arguments` begin with its name."""

    arguments: Sequence[Argument]
    packed: bytes


def command_of(*arguments: Argument) -> Command:
    return Command(arguments, pack_command(arguments))  # type: ignore[arg-type]  # any length


class ServerConnection(asyncio.Protocol):
    """One exchange at a time. Replies have RESP3's shapes, whichever protocol the server speaks.

    Args:
        opened: connected; what comes in from now on comes here.
        epoch: RedisServers' when it was opened.
    """

    def __init__(self, opened: AbstractConnection, epoch: int) -> None:
        self.epoch = epoch
        self._opened = opened
        self._is_resp2 = opened.protocol == 2
        self._parser = Reader(
            protocolError=InvalidResponse, replyError=BaseParser.parse_error, notEnoughData=_NOTHING_YET
        )
        self._is_open = True
        self._asked: Sequence[Command] = ()
        self._num_replies = 0
        self._take: Callable[[Any], None] | None = None
        self._end: Callable[[Exception | None], None] | None = None
        assert opened._writer is not None, "it is connected"
        self._transport: asyncio.WriteTransport = opened._writer.transport
        self._transport.set_protocol(self)

    @property
    def address(self) -> Address:
        """Empty: a unix socket."""
        return getattr(self._opened, "host", ""), getattr(self._opened, "port", 0)

    @property
    def is_clean(self) -> bool:
        """Whether it may be used: open, and no reply of an earlier exchange is to come."""
        return self._is_open and self._end is None

    def exchange(
        self, commands: Sequence[Command], take: Callable[[Any], None], end: Callable[[Exception | None], None]
    ) -> None:
        """Send commands.

        Args:
            take: called with each reply, which may be an exception, in the commands' order.
            end: called once: after the last reply with None, or with why no more come (RedisError, OSError).
        """
        self._asked, self._num_replies, self._take, self._end = commands, 0, take, end
        if not self._is_open:
            self._finish(RedisConnectionError("Connection closed by server."))
            return
        try:
            self._transport.write(b"".join([command.packed for command in commands]))
        except (OSError, RuntimeError) as error:  # it was closed, and nobody has said so yet
            self.give_up(RedisConnectionError(str(error)))

    async def ask(self, *arguments: Argument) -> Any:
        """One command and its reply. Raises RedisError, OSError."""
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def take(value: Any) -> None:
            if reply.done():  # who asked has gone
                return
            if isinstance(value, Exception):
                reply.set_exception(value)
            else:
                reply.set_result(value)

        def end(error: Exception | None) -> None:
            if error is not None:
                take(error)

        self.exchange([command_of(*arguments)], take, end)
        return await reply

    async def ask_all(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        """Commands sent as one piece; each reply, or the exception in its place. Raises RedisError, OSError."""
        replies: list[Any] = []
        has_all: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def end(error: Exception | None) -> None:
            if has_all.done():  # who asked has gone
                return
            if error is not None:
                has_all.set_exception(error)
            else:
                has_all.set_result(None)

        self.exchange([command_of(*command) for command in commands], replies.append, end)
        await has_all
        return replies

    def give_up(self, error: Exception) -> None:
        """Close it now; who waits for replies is told."""
        if self._is_open:
            self._is_open = False
            self._transport.abort()
        self._finish(error)

    async def close(self) -> None:
        self.give_up(RedisConnectionError("this process closed the connection"))
        await self._opened.disconnect(nowait=True)

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed(data)
            while (reply := self._parser.gets()) is not _NOTHING_YET:
                self._hand_over(reply)
        except InvalidResponse as error:
            self.give_up(error)

    def eof_received(self) -> None:
        self.give_up(RedisConnectionError("Connection closed by server."))

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_open = False
        self._finish(exc if isinstance(exc, OSError) else RedisConnectionError("Connection closed by server."))

    def _hand_over(self, reply: Any) -> None:
        if isinstance(reply, PushNotification):
            return
        if self._take is None:
            raise InvalidResponse("a reply to nothing that was asked")  # whose the next one is, nobody knows
        if self._is_resp2 and reply is not None and not isinstance(reply, Exception):
            shape = _SHAPES.get(self._asked[self._num_replies].arguments[0])
            reply = reply if shape is None else shape(reply)
        self._num_replies += 1
        self._take(reply)
        if self._num_replies == len(self._asked):
            self._finish(None)

    def _finish(self, error: Exception | None) -> None:
        end, self._take, self._end = self._end, None, None
        if end is not None:
            end(error)


def _map_of_pairs(reply: list[Any]) -> dict[Any, Any]:
    return dict(reply)


def _map_of_flat(reply: list[Any]) -> dict[Any, Any]:
    return dict(zip(reply[::2], reply[1::2], strict=True))


# What RESP2 tells as lists and RESP3 as maps
_SHAPES: dict[Argument, Callable[[list[Any]], Any]] = {
    "XREAD": _map_of_pairs,
    "XREADGROUP": _map_of_pairs,
    "HGETALL": _map_of_flat,
    "CONFIG": _map_of_flat,
}
