"""One job's events as one waiting request sees them."""

import asyncio
from collections import deque
from typing import Any, Protocol, Self

from models.jobs import Event, decode_event
from service.core.backoff import Backoff
from service.core.errors import BusUnavailable, JobLost
from service.queue.record import Ending, decode_ending
from service.queue.redelivery import DeliveredPrefix, NonDeterministicReplay

_FOLLOW_S = 10.0  # after hearing nothing for this long it looks into the record: its inbox may have lost something
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 1.0  # before the record is read again where Redis is away


class Source(Protocol):
    """Where a subscription's events come from: the process' inbox (JobProducer), which puts them in, and Redis."""

    def enter(self, subscription: "JobSubscription") -> None: ...

    def leave(self, subscription: "JobSubscription") -> None: ...

    async def follow(self, job_id: str, token: int, number: int) -> Any: ...

    def require_served(self, job_id: str) -> None: ...

    async def finish(self, job_id: str, ending: Ending) -> bool: ...

    async def cancel(self, job_id: str, reason: str) -> bool: ...


class JobSubscription:
    """Async context manager and iterator over one job's events, ended by its Ending.

    Events come in order, each once, and without what an earlier delivery has said already. Past the job's deadline the
    subscription cancels it. Raises JobLost when Redis forgot the job, BusUnavailable when it is away past the deadline
    or for longer than `redis_outage_s`.
    """

    def __init__(self, source: Source, job_id: str, has_missed: bool) -> None:
        self.job_id = job_id
        self.deadline: float | None = None  # of the event loop's clock
        self._source = source
        self._behind = has_missed
        self._inbox: deque[tuple[bytes, bytes, bool]] = deque()  # position, payload, read from the record
        self._awake = asyncio.Event()
        self._alarm: asyncio.TimerHandle | None = None  # sets it where nothing comes, at `_alarm_at`
        self._alarm_at = 0.0
        self._last = (0, 0)  # fencing token and number of the last event seen
        self._given = DeliveredPrefix()
        self._backoff = Backoff(_FIRST_WAIT_S, _LONGEST_WAIT_S)
        self._ended = False

    def open(self) -> None:
        """From here on nothing is missed."""
        self._source.enter(self)

    def close(self) -> None:
        self._source.leave(self)
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    async def __aenter__(self) -> Self:
        self.open()
        return self

    async def __aexit__(self, *exception: object) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    def put(self, position: bytes, payload: bytes) -> None:
        self._inbox.append((position, payload, False))
        self._awake.set()

    def has_missed(self) -> None:
        self._behind = True
        self._awake.set()

    async def __anext__(self) -> Event | Ending:
        if self._ended:
            raise StopAsyncIteration
        while True:
            while self._inbox:
                event = await self._take(*self._inbox.popleft())
                if event is not None:
                    return event
            if self._behind:
                await self._catch_up()
            else:
                await self._wait()

    async def _take(self, position: bytes, payload: bytes, from_record: bool) -> Event | Ending | None:
        if not payload:  # a pointer: too large for an inbox
            self._behind = True
            return None
        if position == b"end":
            self._ended = True
            return decode_ending(payload)
        token, number = map(int, position.split(b"-"))
        last_token, last_number = self._last
        if (token, number) <= self._last:
            return None
        if not from_record and number != (last_number + 1 if token == last_token else 1):
            self._behind = True  # something between was missed; the record has both
            return None
        self._last = (token, number)
        try:
            return self._given.only_new(token, decode_event(payload))
        except NonDeterministicReplay as difference:
            message = f"job {self.job_id} was restarted and did not repeat itself: {difference}"
            await self._source.finish(self.job_id, Ending("failed", "job_failed", message))
            self._behind = True  # should something else have ended it first
            return None

    async def _catch_up(self) -> None:
        self._behind = False
        try:
            reply = await self._source.follow(self.job_id, *self._last)
        except BusUnavailable:
            self._behind = True
            if self.deadline is not None and asyncio.get_running_loop().time() >= self.deadline:
                raise
            self._source.require_served(self.job_id)
            await self._backoff.wait()
            return
        except BaseException:  # who waited has left: the next one reads again
            self._behind = True
            raise
        self._backoff.reset()
        if reply is None:
            raise lost(self.job_id)
        state, left_ms, events, position, result, ending = reply
        if self.deadline is None and left_ms >= 0:
            self.deadline = asyncio.get_running_loop().time() + left_ms / 1000
        read = [(event_id, fields[1], True) for event_id, fields in events]
        if result:
            read.append((position, result, True))
        if ending:
            read.append((b"end", ending, True))
        if not read:
            self._source.require_served(self.job_id)
        self._inbox.extendleft(reversed(read))

    async def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        self._awake.clear()
        until = loop.time() + _FOLLOW_S
        if self.deadline is not None:
            until = min(until, self.deadline)
        while loop.time() < until:
            self._wake_by(until)
            await self._awake.wait()
            if self._inbox or self._behind:
                return
            self._awake.clear()
        self._behind = True
        if self.deadline is not None and loop.time() >= self.deadline:
            await self._source.cancel(self.job_id, "deadline_exceeded")

    def _wake_by(self, until: float) -> None:
        """One timer for many waits: setting one for each event of each stream is what would cost most of all."""
        if self._alarm is not None:
            if self._alarm_at <= until:
                return
            self._alarm.cancel()
        self._alarm, self._alarm_at = asyncio.get_running_loop().call_at(until, self._ring), until

    def _ring(self) -> None:
        self._alarm = None
        self._awake.set()


def lost(job_id: str) -> JobLost:
    return JobLost(f"job {job_id} is unknown: it is past its retention time, or the server lost its data")
