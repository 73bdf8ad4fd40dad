"""Inboxes: a stream for each API process, through which it hears of all jobs that it waits for.

One task drains it for all requests.
"""

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from service.core.backoff import Backoff
from service.core.errors import BusUnavailable
from service.core.settings import Settings
from service.core.tasks import TaskSupervisor, stop_tasks
from service.queue.subscription import JobSubscription
from service.redis.connection import BlockingReader, RedisConnection
from service.redis.keys import Keys

_log = logging.getLogger(__name__)

MAX_INLINE_BYTES = 4096  # a larger event goes into an inbox as a pointer, and is read from the job's record
_LENGTH = 16384
_BLOCK_S = 1.0
_INBOX_EXPIRY_S = 60.0
_YIELDS = 2  # of the loop to who got an event, to send on what it makes of it before the inbox is read again
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.05, 1.0  # before the inbox is read again where Redis is away


class Inbox:
    """One process' inbox: who waits here for which job, and what is read for them.

    What it misses (Redis away, trimmed, late) each of them reads again from its job's record.

    Args:
        tasks: keeps the reader and the sign of life.
    """

    def __init__(
        self,
        connection: RedisConnection,
        reader: BlockingReader,
        settings: Settings,
        process_id: str,
        tasks: TaskSupervisor,
    ) -> None:
        keys = Keys(settings.redis_prefix)
        self._connection = connection
        self._reader = reader
        self._settings = settings
        self._process_id = process_id
        self._key = keys.inbox(process_id)
        self._keys = (*keys.of_jobs(), self._key)
        self._subscriptions: dict[str, set[JobSubscription]] = {}
        self._cursor = "0-0"
        self._out_since_s = float("inf")  # of the event loop's clock, where Redis takes no writes now
        self._supervisor = tasks
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start listening. Redis may be away: everything begins to work when it comes."""
        with suppress(BusUnavailable):
            await self._beat()
        start = self._supervisor.start
        self._tasks = [start("inbox", self._read), start("api_beat", self._keep_alive)]

    async def close(self) -> None:
        await stop_tasks(self._tasks)
        with suppress(BusUnavailable):
            await self._connection.transition("api_leave", self._keys, self._process_id)
        await self._reader.close()

    def subscriptions(self, job_id: str) -> Iterable[JobSubscription]:
        """Those here that wait for a job."""
        return self._subscriptions.get(job_id, ())

    def enter(self, subscription: JobSubscription) -> None:
        self._subscriptions.setdefault(subscription.job_id, set()).add(subscription)

    def leave(self, subscription: JobSubscription) -> None:
        subscriptions = self._subscriptions.get(subscription.job_id)
        if subscriptions is not None:
            subscriptions.discard(subscription)
            if not subscriptions:
                del self._subscriptions[subscription.job_id]

    def require_served(self, job_id: str) -> None:
        """Raises BusUnavailable where Redis has served nobody for longer than a request may wait for it."""
        if self._is_out:
            raise BusUnavailable(
                f"the queue's server has not taken anything for {self._settings.redis_outage_s:g} s; "
                f"{job_id} may still be finished: ask for it later"
            )

    async def _read(self) -> None:
        backoff = Backoff(_FIRST_WAIT_S, _LONGEST_WAIT_S)
        await self._reader.close()  # started again: what was on its way there is read from the jobs' records
        self._all_have_missed()
        while True:
            try:
                entries = await self._read_news()
            except BusUnavailable as error:
                self._cursor = ""  # another server may be the primary by then, whose clock and ids are behind
                if not backoff.failures:
                    _log.warning("inbox: %s", error.message)
                await backoff.wait()
                continue
            if backoff.failures:
                backoff.reset()
                _log.info("inbox: Redis is back")
                with suppress(BusUnavailable):
                    await self._beat()
                self._all_have_missed()
            if entries:
                self._hand_out(entries)
                if len(self._subscriptions) == 1:  # with more of them at work, others' events should not wait
                    for _ in range(_YIELDS):
                        await asyncio.sleep(0)

    async def _read_news(self) -> list[Any]:
        """Entries after the cursor, waiting for the first. Without a cursor: none, and from now on what is new."""
        if not self._cursor:
            newest = await self._connection.send("XREVRANGE", self._key, "+", "-", "COUNT", 1)
            self._cursor = newest[0][0] if newest else "0-0"
            return []
        command = ("XREAD", "COUNT", 1024, "BLOCK", _ms(_BLOCK_S), "STREAMS", self._key, self._cursor)
        reply = await self._reader.read(*command, block_s=_BLOCK_S)
        return reply[self._key.encode()] if reply else []

    def _hand_out(self, entries: list[Any]) -> None:
        self._cursor = entries[-1][0]  # first: an entry that cannot be handed out is not read again and again
        for _, (_, job_id, _, position, _, payload) in entries:
            for subscription in self._subscriptions.get(job_id.decode(), ()):
                subscription.put(position, payload)

    def _all_have_missed(self) -> None:
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.has_missed()

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(self._settings.heartbeat_s)
            try:
                await self._beat()
            except BusUnavailable:
                self._out_since_s = min(self._out_since_s, asyncio.get_running_loop().time())
                if self._is_out:
                    self._all_have_missed()  # who waits is told so

    @property
    def _is_out(self) -> bool:
        """Whether Redis is away, or refuses writes since its disk or memory is full, for longer than one may wait."""
        return asyncio.get_running_loop().time() - self._out_since_s > self._settings.redis_outage_s

    async def _beat(self) -> None:
        alive_ms = _ms(self._settings.heartbeat_expiry_s)
        inbox_ms = _ms(_INBOX_EXPIRY_S)
        if await self._connection.transition("api_beat", self._keys, self._process_id, alive_ms, inbox_ms):
            self._cursor = "0-0"  # a new inbox: its ids may start below the old one's
            self._all_have_missed()
        self._out_since_s = float("inf")


async def send_to_inboxes(
    connection: RedisConnection, keys: Keys, processes: Iterable[str], job_id: str, position: bytes, payload: bytes
) -> None:
    """Tell API processes of an event that a transition could not tell them of: it was not handed their inboxes.

    Where Redis is away they find it later: who waits looks into the record after a while.
    """
    data = payload if len(payload) <= MAX_INLINE_BYTES else b""
    fields = ("j", job_id, "p", position, "d", data)
    sent = [
        connection.send("XADD", keys.inbox(process), "NOMKSTREAM", "MAXLEN", "~", _LENGTH, "*", *fields)
        for process in processes
    ]
    await asyncio.gather(*sent, return_exceptions=True)


def _ms(duration_s: float) -> int:
    return int(duration_s * 1000)
