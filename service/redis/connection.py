"""The way to Redis: calls that are made together travel together, and none waits longer than its limit.

A `RedisConnection` is one connection. What its callers ask for while an exchange is under way goes out as one pipeline
when that exchange is over, so a busy process pays for few round trips and an idle one waits for nothing. What happens
in a job's life are the transitions of scripts.py.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from hiredis import pack_command
from redis.exceptions import MovedError, NoScriptError, ResponseError

from service.core.errors import BusUnavailable
from service.core.settings import Settings
from service.core.tasks import stop_tasks
from service.redis.errors import is_callers_own
from service.redis.keys import Keys
from service.redis.primary import CALL_LIMIT_S, Argument, RedisServers, ServerConnection
from service.redis.scripts import sha_of, source_of

Command = tuple[Argument, ...]
TransitionCall = tuple[str, Sequence[str], Sequence[Argument]]  # name, keys, arguments

_MAX_BATCH = 256
_MOVED_PAUSE_S = 0.05  # two nodes may name each other until the cluster is agreed


class _Call(NamedTuple):
    command: Command
    reply: "asyncio.Future[Any]"
    deadline: float  # of the event loop's clock; calls wait in its order


def open_redis(settings: Settings) -> RedisServers:
    """The server that VISCPM_REDIS_URL names; nothing is sent yet. Raises SettingsError."""
    return RedisServers(settings, slot_key=Keys(settings.redis_prefix).tag)


class RedisConnection:
    """One connection shared by concurrent calls. Every call raises BusUnavailable where Redis does not serve it.

    No call takes longer than CALL_LIMIT_S: what is done for it meanwhile, its waiting for others, and connecting count.
    """

    def __init__(self, servers: RedisServers) -> None:
        self._servers = servers
        self._connection: ServerConnection | None = None
        self._waiting: deque[_Call] = deque()
        self._sent: Sequence[_Call] = ()  # and not all answered
        self._exchanging: asyncio.Task[None] | None = None
        self._expiry: asyncio.TimerHandle | None = None

    async def transition(self, name: str, keys: Sequence[str], *arguments: Argument) -> Any:
        """One atomic transition (scripts.py), with all keys that it uses."""
        return await self.begin_transition(name, keys, *arguments)

    def begin_transition(self, name: str, keys: Sequence[str], *arguments: Argument) -> "asyncio.Future[Any]":
        """The same, as the future of its reply: it comes before all that is asked for later."""
        return self.send("EVALSHA", sha_of(name), len(keys), *keys, *arguments)

    def send(self, *command: Argument) -> "asyncio.Future[Any]":
        """Queue a command for the next exchange; the future holds its reply."""
        loop = asyncio.get_running_loop()
        call = _Call(command, loop.create_future(), loop.time() + CALL_LIMIT_S)
        self._waiting.append(call)
        if self._exchanging is None:
            self._exchanging = asyncio.create_task(self._exchange())
        if self._expiry is None:
            self._expiry = loop.call_at(call.deadline, self._expire)
        return call.reply

    async def transitions(self, calls: Iterable[TransitionCall]) -> list[Any]:
        """Several transitions in one exchange: each reply, or the exception in its place."""
        futures = [self.begin_transition(name, keys, *arguments) for name, keys, arguments in calls]
        return await asyncio.gather(*futures, return_exceptions=True)

    async def close(self) -> None:
        if self._exchanging is not None:
            await stop_tasks([self._exchanging])
        if self._expiry is not None:
            self._expiry.cancel()
        self._close_calls(self._waiting)
        self._waiting.clear()
        await self._disconnect()

    @staticmethod
    def _close_calls(calls: Iterable[_Call]) -> None:
        for call in calls:
            _raise_in(call, BusUnavailable("this process is closing its connection to the queue's server"))

    async def _exchange(self) -> None:
        try:
            while self._waiting:
                try:
                    connection = await self._connected()
                except Exception as error:
                    self._fail(self._waiting, error)
                    self._waiting.clear()
                    continue
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _MAX_BATCH))]
                if not batch:  # they did not live to see the connection
                    continue
                self._sent = batch
                try:
                    async with asyncio.timeout_at(batch[-1].deadline):
                        await self._round_trip(connection, batch)
                except Exception as error:
                    self._fail(batch, error)
                    await self._disconnect()
        finally:  # cancelled by close(): nobody may be left waiting
            self._close_calls(self._sent)
            self._sent = ()
            self._exchanging = None

    async def _round_trip(self, connection: ServerConnection, batch: Sequence[_Call]) -> None:
        await connection.send(b"".join([pack_command(call.command) for call in batch]))  # type: ignore[arg-type]  # any length
        again: list[_Call] = []  # not executed, and sent once more in the same order
        has_moved = False
        for call in batch:
            try:
                reply = await connection.read(call.command[0])
            except NoScriptError:  # a restarted server: all calls of this batch come here
                again.append(call._replace(command=("EVAL", source_of(call.command[1]), *call.command[2:])))
            except ResponseError as error:
                if isinstance(error, MovedError) and self._servers.moved(connection, error.host, error.port):
                    has_moved = True
                    again.append(call)
                elif is_callers_own(error):
                    _raise_in(call, error)
                else:
                    self._fail([call], error)
            else:
                if not call.reply.done():
                    call.reply.set_result(reply)
        self._waiting.extendleft(reversed([call for call in again if not call.reply.done()]))
        if has_moved:
            await asyncio.sleep(_MOVED_PAUSE_S)

    async def _connected(self) -> ServerConnection:
        """Raises what RedisServers.connect does."""
        connection = self._connection
        if connection is not None:
            if self._servers.is_current(connection) and await connection.is_clean():
                return connection
            await self._disconnect()
        self._connection = await self._servers.connect()
        return self._connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def _expire(self) -> None:
        """End the calls whose time is over, sent or not."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        overdue = [call for call in self._sent if call.deadline <= now]
        while self._waiting and self._waiting[0].deadline <= now:
            overdue.append(self._waiting.popleft())
        if overdue:
            self._fail(overdue, TimeoutError())
        left = [call for call in self._sent if call.deadline > now][:1] or self._waiting
        self._expiry = loop.call_at(left[0].deadline, self._expire) if left else None

    def _fail(self, calls: Iterable[_Call], error: Exception) -> None:
        """An outage, in our words to all who wait."""
        outage = self._servers.failed(error, self._connection)
        for call in calls:
            _raise_in(call, BusUnavailable(outage.told))


def _raise_in(call: _Call, error: Exception) -> None:
    if not call.reply.done():
        call.reply.set_exception(error)
        call.reply.exception()  # seen: who asked may have gone, or have heard of the same in another call


class BlockingReader:
    """A connection of its own for reads that wait at the server."""

    def __init__(self, servers: RedisServers) -> None:
        self._servers = servers
        self._connection: ServerConnection | None = None

    async def read(self, *command: Argument, block_s: float) -> Any:
        """The reply, which the server holds back for up to `block_s`; at most CALL_LIMIT_S longer.

        Raises BusUnavailable, or ResponseError when the server refuses the command for another reason.
        """
        try:
            async with asyncio.timeout(block_s + CALL_LIMIT_S):
                return await self._read(command)
        except Exception as error:
            if is_callers_own(error):
                raise
            outage = self._servers.failed(error, self._connection, block_s + CALL_LIMIT_S)
            await self.close()
            raise BusUnavailable(outage.told) from None
        except asyncio.CancelledError:
            await self.close()  # its reply would answer the next command
            raise

    async def _read(self, command: Command) -> Any:
        while True:
            connection = self._connection
            if connection is None or not self._servers.is_current(connection) or not await connection.is_clean():
                await self.close()
                connection = self._connection = await self._servers.connect()
            try:
                with self._servers.waiting(connection):
                    return await connection.ask(*command)
            except MovedError as error:
                if not self._servers.moved(connection, error.host, error.port):
                    raise
                await asyncio.sleep(_MOVED_PAUSE_S)

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


__all__ = ["BlockingReader", "RedisConnection", "RedisServers", "open_redis"]
