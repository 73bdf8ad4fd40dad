"""The way to Redis: calls that are made together travel together, and none waits longer than its limit.

A `RedisConnection` is one connection. What its callers ask for while an exchange is under way goes out as one pipeline
when that exchange is over, so a busy process pays for few round trips and an idle one waits for nothing. What happens
in a job's life are the transitions of scripts.py.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import redis.asyncio
from hiredis import pack_command
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from service.core.errors import BusUnavailable
from service.core.tasks import stop_tasks
from service.queue.scripts import sha_of, source_of

CONNECT_TIMEOUT_S = 1.0
CALL_TIMEOUT_S = 2.0

Argument = bytes | str | int | float
Command = tuple[Argument, ...]
TransitionCall = tuple[str, Sequence[str], Sequence[Argument]]  # name, keys, arguments

_MAX_BATCH = 256
_REFUSALS = (AuthenticationError, BusyLoadingError, OutOfMemoryError, ReadOnlyError)


def open_redis(url: str) -> "redis.asyncio.Redis":
    """A client that fails fast instead of retrying: the callers know better what a failure means."""
    return redis.asyncio.Redis.from_url(
        url,
        protocol=3,
        decode_responses=False,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        socket_timeout=CALL_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )


class RedisConnection:
    """One connection shared by concurrent calls. Every call raises BusUnavailable where Redis does not serve it."""

    def __init__(self, client: "redis.asyncio.Redis") -> None:
        self._pool = client.connection_pool
        self._connection: Any = None
        self._waiting: deque[tuple[Command, asyncio.Future[Any]]] = deque()
        self._exchanging: asyncio.Task[None] | None = None

    async def transition(self, name: str, keys: Sequence[str], *arguments: Argument) -> Any:
        """One atomic transition (scripts.py), with all keys that it uses."""
        return await self.begin_transition(name, keys, *arguments)

    def begin_transition(self, name: str, keys: Sequence[str], *arguments: Argument) -> "asyncio.Future[Any]":
        """The same, as the future of its reply: it comes before all that is asked for later."""
        return self.send("EVALSHA", sha_of(name), len(keys), *keys, *arguments)

    def send(self, *command: Argument) -> "asyncio.Future[Any]":
        """Queue a command for the next exchange; the future holds its reply."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((command, future))
        if self._exchanging is None:
            self._exchanging = asyncio.create_task(self._exchange())
        return future

    async def transitions(self, calls: Iterable[TransitionCall]) -> list[Any]:
        """Several transitions in one exchange: each reply, or the exception in its place."""
        futures = [self.begin_transition(name, keys, *arguments) for name, keys, arguments in calls]
        return await asyncio.gather(*futures, return_exceptions=True)

    async def close(self) -> None:
        if self._exchanging is not None:
            await stop_tasks([self._exchanging])
        self._fail(list(self._waiting), BusUnavailable("this process is closing its connection to Redis"))
        self._waiting.clear()
        await self._disconnect()

    async def _exchange(self) -> None:
        batch: list[tuple[Command, asyncio.Future[Any]]] = []
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _MAX_BATCH))]
                try:
                    async with asyncio.timeout(CALL_TIMEOUT_S):
                        await self._round_trip(batch)
                except (RedisError, OSError, TimeoutError) as error:
                    await self._disconnect()
                    self._fail(batch, BusUnavailable(f"Redis does not answer: {_reason(error)}"))
        except BaseException:  # cancelled by close(): nobody may be left waiting
            self._fail(batch, BusUnavailable("this process is closing its connection to Redis"))
            raise
        finally:
            self._exchanging = None

    async def _round_trip(self, batch: list[tuple[Command, "asyncio.Future[Any]"]]) -> None:
        self._connection = connection = await _usable(self._connection, self._pool)
        packed = b"".join([pack_command(command) for command, _ in batch])  # type: ignore[arg-type]  # any length
        await connection.send_packed_command(packed, check_health=False)
        unknown_script = []
        for command, future in batch:
            try:
                reply = await connection.read_response()
            except NoScriptError:  # a restarted server: all calls of this batch come here, and keep their order
                unknown_script.append((("EVAL", source_of(command[1]), *command[2:]), future))
            except ResponseError as error:
                if not future.done():
                    future.set_exception(_refusal(error))
            else:
                if not future.done():
                    future.set_result(reply)
        self._waiting.extendleft(reversed(unknown_script))

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)

    @staticmethod
    def _fail(batch: Sequence[tuple[Command, "asyncio.Future[Any]"]], error: BusUnavailable) -> None:
        for _, future in batch:
            if not future.done():
                future.set_exception(error)


class BlockingReader:
    """A connection of its own for reads that wait at the server."""

    def __init__(self, client: "redis.asyncio.Redis") -> None:
        self._pool = client.connection_pool
        self._connection: Any = None

    async def read(self, *command: Argument, block_s: float) -> Any:
        """The reply, which the server holds back for up to `block_s`.

        Raises BusUnavailable, or ResponseError when the server refuses the command for another reason.
        """
        try:
            async with asyncio.timeout(block_s + CALL_TIMEOUT_S):
                self._connection = await _usable(self._connection, self._pool)
                await self._connection.send_command(*command, check_health=False)
                return await self._connection.read_response()
        except ResponseError as error:
            raise _refusal(error) from None
        except (RedisError, OSError, TimeoutError) as error:
            await self.close()
            raise BusUnavailable(f"Redis does not answer: {_reason(error)}") from None
        except asyncio.CancelledError:
            await self.close()  # its reply would answer the next command
            raise

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)


async def _usable(connection: Any, pool: Any) -> Any:
    """The connection, or a new one where the server has closed it since the last exchange."""
    if connection is not None:
        reader = getattr(connection, "_reader", None)
        if reader is not None and not reader.at_eof():
            return connection
        await connection.disconnect(nowait=True)
    connection = pool.make_connection()
    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        await connection.connect()
    connection.socket_timeout = None  # the exchange as a whole has the limit
    return connection


def _refusal(error: ResponseError) -> Exception:
    if isinstance(error, _REFUSALS) or str(error).startswith(("MISCONF", "NOREPLICAS")):
        return BusUnavailable(f"Redis refuses: {error}")
    return error


def _reason(error: BaseException) -> str:
    """In words that may reach a client: without addresses."""
    if isinstance(error, TimeoutError):
        return f"no reply within {CALL_TIMEOUT_S:g} s"
    if isinstance(error, RedisConnectionError | OSError):
        return "no connection"
    return type(error).__name__


__all__ = ["BlockingReader", "RedisConnection", "RedisConnectionError", "open_redis"]
