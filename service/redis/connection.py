"""The way to Redis: calls that are made together travel together, and none waits longer than its limit.

A `RedisConnection` is one connection. What its callers ask for while an exchange is under way goes out as one pipeline
when that exchange is over, so a busy process pays for few round trips and an idle one waits for nothing. What happens
in a job's life are the transitions of scripts.py.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from redis.exceptions import MovedError, NoScriptError

from service.core.errors import BusUnavailable
from service.core.settings import Settings
from service.core.tasks import stop_tasks
from service.redis.errors import is_callers_own
from service.redis.keys import Keys
from service.redis.primary import CALL_LIMIT_S, RedisServers
from service.redis.scripts import sha_of, source_of
from service.redis.server_connection import Argument, Command, ServerConnection, command_of

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
        self._sent: deque[_Call] = deque()  # and not answered yet
        self._again: list[_Call] = []  # not executed, and sent once more in the same order
        self._known_scripts: set[Argument] = set()  # that the server has
        self._has_moved = False
        self._is_busy = False  # an exchange is due, under way, or waits for a connection
        self._connecting: asyncio.Task[None] | None = None
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
        call = _Call(command_of(*command), loop.create_future(), loop.time() + CALL_LIMIT_S)
        self._waiting.append(call)
        if not self._is_busy:
            self._is_busy = True
            loop.call_soon(self._exchange)  # with what else is asked for in this turn of the loop
        if self._expiry is None:
            self._expiry = loop.call_at(call.deadline, self._expire)
        return call.reply

    async def transitions(self, calls: Iterable[TransitionCall]) -> list[Any]:
        """Several transitions in one exchange: each reply, or the exception in its place."""
        futures = [self.begin_transition(name, keys, *arguments) for name, keys, arguments in calls]
        return [await _reply_or_error(future) for future in futures]  # mostly there together: gather costs more

    async def close(self) -> None:
        if self._connecting is not None:
            await stop_tasks([self._connecting])
            self._connecting = None
        if self._expiry is not None:
            self._expiry.cancel()
        for call in (*self._sent, *self._waiting):
            _raise_in(call, BusUnavailable("this process is closing its connection to the queue's server"))
        self._sent.clear()
        self._waiting.clear()
        self._is_busy = False
        await self._disconnect()

    def _exchange(self) -> None:
        """Send what waits, if anything does: after this, and after each exchange."""
        if not self._waiting:
            self._is_busy = False
            return
        connection = self._connection
        if connection is None or not connection.is_clean or not self._servers.is_current(connection):
            self._begin_connecting()
            return
        while self._waiting and len(self._sent) < _MAX_BATCH:
            self._sent.append(call := self._waiting.popleft())
            if call.command.arguments[0] == "EVALSHA" and call.command.arguments[1] not in self._known_scripts:
                break  # sent again, it would come after the next ones
        connection.exchange([call.command for call in self._sent], self._take, self._end)

    def _begin_connecting(self, after_s: float = 0.0) -> None:
        self._connecting = asyncio.create_task(self._connect(after_s))

    async def _connect(self, after_s: float) -> None:
        """Exchange over a new connection, or over the one that there is where it serves."""
        try:
            await asyncio.sleep(after_s)
            connection = self._connection
            if connection is None or not connection.is_clean or not self._servers.is_current(connection):
                await self._disconnect()
                self._known_scripts.clear()
                self._connection = await self._servers.connect()
        except Exception as error:
            self._fail(self._waiting, error)
            self._waiting.clear()
        self._connecting = None
        self._exchange()

    def _take(self, reply: Any) -> None:
        call = self._sent.popleft()
        if not isinstance(reply, Exception):
            if call.command.arguments[0] == "EVALSHA":
                self._known_scripts.add(call.command.arguments[1])
            if not call.reply.done():
                call.reply.set_result(reply)
        elif isinstance(reply, NoScriptError):  # a restarted server: all calls of this exchange come here
            _, sha, *arguments = call.command.arguments
            self._again.append(call._replace(command=command_of("EVAL", source_of(sha), *arguments)))
        elif isinstance(reply, MovedError) and self._moved(reply):
            self._has_moved = True
            self._again.append(call)
        elif is_callers_own(reply):
            _raise_in(call, reply)
        else:
            self._fail([call], reply)

    def _moved(self, error: MovedError) -> bool:
        return self._connection is not None and self._servers.moved(self._connection, error.host, error.port)

    def _end(self, error: Exception | None) -> None:
        """An exchange is over, with replies to all, or without."""
        if error is not None and self._sent:
            unanswered = [*self._sent]
            self._sent.clear()
            self._fail(unanswered, error)
        self._waiting.extendleft(reversed([call for call in self._again if not call.reply.done()]))
        has_moved, self._has_moved = self._has_moved, False
        self._again.clear()
        if has_moved:
            self._begin_connecting(_MOVED_PAUSE_S)
        else:
            self._exchange()

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def _expire(self) -> None:
        """End the calls whose time is over, sent or not; a connection whose replies are all late is given up."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        overdue = [call for call in self._sent if call.deadline <= now]
        is_late = len(overdue) == len(self._sent) > 0
        while self._waiting and self._waiting[0].deadline <= now:
            overdue.append(self._waiting.popleft())
        if overdue:
            self._fail(overdue, TimeoutError())
        if is_late and self._connection is not None:
            self._connection.give_up(TimeoutError())
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


async def _reply_or_error(reply: "asyncio.Future[Any]") -> Any:
    try:
        return await reply
    except Exception as error:
        return error


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
            return await self._read(command, asyncio.get_running_loop().time() + block_s + CALL_LIMIT_S)
        except Exception as error:
            if is_callers_own(error):
                raise
            outage = self._servers.failed(error, self._connection, block_s + CALL_LIMIT_S)
            await self.close()
            raise BusUnavailable(outage.told) from None
        except asyncio.CancelledError:
            await self.close()  # its reply would answer the next command
            raise

    async def _read(self, command: Sequence[Argument], deadline: float) -> Any:
        """`deadline` is of the event loop's clock."""
        while True:
            connection = self._connection
            if connection is None or not self._servers.is_current(connection) or not connection.is_clean:
                async with asyncio.timeout_at(deadline):
                    await self.close()
                    connection = self._connection = await self._servers.connect()
            # Cheaper by far than a timeout of asyncio's, which each read of an empty queue would pay for
            limit = asyncio.get_running_loop().call_at(deadline, connection.give_up, TimeoutError())
            self._servers.waiting.add(connection)
            try:
                return await connection.ask(*command)
            except MovedError as error:
                if not self._servers.moved(connection, error.host, error.port):
                    raise
                await asyncio.sleep(_MOVED_PAUSE_S)
            finally:
                limit.cancel()
                self._servers.waiting.discard(connection)

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


__all__ = ["BlockingReader", "RedisConnection", "RedisServers", "open_redis"]
