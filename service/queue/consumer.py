"""The worker's side of the queue: jobs taken under a lease, their events published under a fencing token."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec
from redis.exceptions import ResponseError

from models.jobs import ChatJob, Event, Failed, Generated, Job, Kind, PaintJob, VersionMismatch, decode_job, encode
from service.core.errors import BusUnavailable
from service.core.metrics import Metrics
from service.core.settings import Settings
from service.queue.inbox import send_to_inboxes
from service.queue.record import Ending, encode_ending, error_ending
from service.queue.waiting_jobs import Entry, WaitingJobs
from service.redis.connection import BlockingReader, RedisConnection, RedisServers, TransitionCall
from service.redis.keys import Keys

_log = logging.getLogger(__name__)

_OLD_CONSUMER_S = 3600.0
_FIRST_TOKEN = 1


class Delivery:
    """One job in hand. `unsent` are its encoded events from number `next_number` on.

    Args:
        watchers: API processes that hear of its events.
        claim: the reply to its claim, where that is still on its way.
        number: how often the job was delivered, with this one.
        queue: that it was taken from.
    """

    def __init__(
        self,
        job: Job,
        token: int,
        is_isolated: bool,
        entry: bytes,
        watchers: bytes = b"",
        claim: "asyncio.Future[Any] | None" = None,
        number: int = 1,
        queue: str = "",
    ) -> None:
        self.job = job
        self.job_id = job.job_id
        self.token = token
        self.is_isolated = is_isolated  # it may have taken its workers down: runs with no other
        self.entry = entry
        self.watchers = watchers.decode().split()
        self.claim = claim
        self.number = number
        self.queue = queue
        self.next_number = 1
        self.unsent: list[bytes] = []
        self.last_state = ""  # generated, or an ending's, once the engine is done with it
        self.last = b""

    def add(self, event: Event) -> None:
        """Put an event in line for `JobConsumer.publish`."""
        if isinstance(event, Generated):
            self.last_state, self.last = "generated", encode(event)
        elif isinstance(event, Failed):
            ending = error_ending(event.code, event.message)
            self.last_state, self.last = ending.state, encode_ending(ending)
        else:
            self.unsent.append(encode(event))


class PublishResult(NamedTuple):
    """Deliveries that are lost (fenced off, or ended by others), that have ended, and that Redis did not take."""

    lost: list[Delivery]
    ended: list[Delivery]
    unsent: list[Delivery]


class JobConsumer:
    """Takes jobs of one kind for one consumer. Calls raise BusUnavailable when Redis does not serve them."""

    def __init__(
        self,
        client: RedisServers,
        connection: RedisConnection,
        kind: Kind,
        consumer: str,
        settings: Settings,
        metrics: Metrics,
    ) -> None:
        self._connection = connection
        self._reader = BlockingReader(client)
        self._cancellations = BlockingReader(client)
        self._last_cancellation = b""  # none was read yet
        self._kind = kind
        self._keys = Keys(settings.redis_prefix)
        self._consumer = consumer
        self._waiting = WaitingJobs(self._reader, connection, self._keys, kind, consumer)
        self._max_deliveries = settings.max_deliveries
        self._lease_ms = int(settings.lease_s * 1000)
        self._metrics = metrics
        self._waiting_isolated: list[Entry] = []  # those that want an empty worker
        self._claims: list[asyncio.Future[Any]] = []  # that an idle worker did not wait for
        self.last_wait_ms = 0  # of the job that was claimed last, in the queue

    @property
    def must_empty(self) -> bool:
        """Whether a job waits here until the worker has nothing else in hand."""
        return bool(self._waiting_isolated)

    async def take(self, room: int, in_hand: Callable[[], int], block_s: float) -> list[Delivery]:
        """Up to `room` new jobs, waiting up to `block_s` for the first.

        An idle worker's may begin while their claims are on the way: nothing of them is heard before, since what is
        published comes after the claim. `is_claimed` tells what became of it.

        Args:
            in_hand: how many jobs the worker has; asked again when one comes.
        """
        if in_hand() and (claims := [claim for claim in self._claims if not claim.done()]):
            await asyncio.wait(claims)  # where tenants share a queue, its next job comes with them (shares.lua)
        entries = await self._waiting.take(room, block_s, is_idle=not in_hand())
        # A safety job's pixels come with its claim; a busy worker gains more by taking together what comes meanwhile
        if self._kind == "safety" or in_hand():
            return await self._claim(entries, in_hand())
        deliveries = [one for entry in entries for one in await self._begin(entry)]
        self._claims = [one.claim for one in deliveries if one.claim is not None]
        await asyncio.sleep(0)  # the claims are written before the first of these jobs can end this process
        return deliveries

    def is_claimed(self, claim: "asyncio.Future[Any]") -> bool:
        """Whether the job is this worker's, by a claim's reply. False: it was ended meanwhile, or Redis is away."""
        if claim.cancelled() or claim.exception() is not None or claim.result()[0] != b"run":
            return False
        self._count_start(claim.result()[2], claim.result()[4])
        return True

    async def recover(self, room: int, in_hand: int) -> list[Delivery]:
        """Jobs whose lease ran out or that were given back, one at a time as they may have to be isolated."""
        recovered: list[Delivery] = []
        if self._waiting_isolated and in_hand == 0:
            recovered += await self._claim([self._waiting_isolated.pop()], 0)
        for queue in self._waiting.queues:
            cursor: bytes | str = "0-0"
            while (
                len(recovered) < room and not self._waiting_isolated and not any(one.is_isolated for one in recovered)
            ):
                cursor, entries = await self._waiting.take_over(self._lease_ms, queue, cursor)
                recovered += await self._claim(entries, in_hand + len(recovered))
                if cursor == b"0-0":
                    break
        return recovered

    async def renew(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Keep the leases. Returns the deliveries that this worker has lost."""
        if not deliveries:
            return []
        replies = await self._connection.transitions(
            [
                ("renew", self._keys.of_job(one.job_id), (one.queue, self._consumer, one.token, one.entry))
                for one in deliveries
            ]
        )
        for reply in replies:
            if isinstance(reply, BaseException):
                raise reply
        return [one for one, is_kept in zip(deliveries, replies, strict=True) if not is_kept]

    async def publish(self, deliveries: Iterable[Delivery]) -> PublishResult:
        """Send what waits in each; what is added meanwhile waits for the next call."""
        sent = [(one, len(one.unsent), one.last_state) for one in deliveries]
        replies = await self._connection.transitions(
            [
                (
                    "publish",
                    (*self._keys.of_job(one.job_id), *map(self._keys.inbox, one.watchers)),
                    (
                        one.job_id,
                        one.token,
                        one.next_number,
                        last_state,
                        one.last,
                        self._lease_ms,
                        *one.unsent[:count],
                    ),
                )
                for one, count, last_state in sent
            ]
        )
        published = PublishResult([], [], [])
        for (one, count, last_state), reply in zip(sent, replies, strict=True):
            if isinstance(reply, BusUnavailable):
                published.unsent.append(one)
            elif isinstance(reply, BaseException):
                raise reply
            elif reply == 0:
                self._metrics.count("events_fenced_total", count + bool(last_state), model=self._kind)
                published.lost.append(one)
            else:
                del one.unsent[:count]
                one.next_number += count
                await self._tell_others(one, reply)
                if last_state:
                    published.ended.append(one)
        return published

    async def _tell_others(self, delivery: Delivery, watchers: bytes) -> None:
        """API processes that began to watch since the last event: they read it from the job's record."""
        now = watchers.decode().split()
        if now != delivery.watchers:
            others = [process for process in now if process not in delivery.watchers]
            delivery.watchers = now
            await send_to_inboxes(self._connection, self._keys, others, delivery.job_id, b"", b"")

    async def cancelled(self, block_s: float) -> list[str]:
        """Jobs that were ended while some worker ran them, since the last call; waits up to `block_s` for the first."""
        if not self._last_cancellation:
            newest = await self._connection.send("XREVRANGE", self._keys.cancelled, "+", "-", "COUNT", 1)
            self._last_cancellation = newest[0][0] if newest else b"0-0"
        command = ("XREAD", "BLOCK", int(block_s * 1000), "STREAMS", self._keys.cancelled, self._last_cancellation)
        try:
            reply = await self._cancellations.read(*command, block_s=block_s)
        except BusUnavailable:
            self._last_cancellation = b""  # another server may be the primary by then, whose clock and ids are behind
            raise
        if not reply:
            return []
        entries = reply[self._keys.cancelled.encode()]
        self._last_cancellation = entries[-1][0]
        return [fields[1].decode() for _, fields in entries]

    async def pixels(self, job: ChatJob) -> bytes:
        """The image of a job: its own, or its conversation's. Empty: it was deleted, or has expired."""
        keys = [self._keys.pixels(job.job_id), *([job.pixels_key] if job.pixels_key else [])]
        found = await self._connection.send("MGET", *keys)
        return next((pixels for pixels in found if pixels), b"")

    async def requeue(self, delivery: Delivery, is_counted: bool, is_isolated: bool) -> None:
        """Leave a job to whoever wants it, at once. `is_counted`: it counts as one of its deliveries."""
        await self._connection.transition(
            "requeue",
            self._keys.of_job(delivery.job_id),
            delivery.queue,
            delivery.token,
            int(is_counted),
            int(is_isolated or delivery.is_isolated),
        )

    async def release(self, consumer: str) -> int:
        """Leave all that a consumer holds to others, at once: this worker on its way out, or a dead one."""
        keys, released = self._keys.of_jobs(), 0
        for queue in self._waiting.queues:
            released += await self._connection.transition("release_consumer", keys, queue, consumer)
        return released

    async def tidy_consumers(self) -> None:
        """Remove consumers of long gone workers from the group."""
        idle_ms = int(_OLD_CONSUMER_S * 1000)
        for queue in self._waiting.queues:
            with suppress(ResponseError):  # no stream yet
                await self._connection.transition("tidy_consumers", self._keys.of_jobs(), queue, idle_ms)

    async def close(self) -> None:
        await self._reader.close()
        await self._cancellations.close()

    async def _claim(self, entries: Sequence[Entry], in_hand: int) -> list[Delivery]:
        replies = await self._connection.transitions(
            [self._claim_call(entry, in_hand + index) for index, entry in enumerate(entries)]
        )
        claimed = []
        for entry, reply in zip(entries, replies, strict=True):
            if isinstance(reply, BaseException):
                raise reply  # what was claimed comes back when its lease runs out
            if reply[0] == b"run":
                claimed += await self._accept(entry, reply)
            elif reply[0] == b"isolated":
                self._waiting_isolated.append(entry)
            elif reply[0] == b"dead":
                self._metrics.count("jobs_dead_lettered_total", model=self._kind)
                job_id, (_, deliveries, ending, watchers) = entry.fields[1].decode(), reply
                _log.error("job %s: given up after %s deliveries", job_id, deliveries.decode())
                processes = watchers.decode().split()
                await send_to_inboxes(self._connection, self._keys, processes, job_id, b"end", ending)
        return claimed

    def _claim_call(self, entry: Entry, in_hand: int) -> TransitionCall:
        job_id = entry.fields[1]
        keys = (*self._keys.of_job(job_id.decode()), self._keys.dead(self._kind))
        return "claim", keys, (entry.queue, entry.id, job_id, self._consumer, self._max_deliveries, in_hand)

    async def _begin(self, entry: Entry) -> list[Delivery]:
        """A job that was never delivered before: its claim can give nothing but the first token."""
        name, keys, arguments = self._claim_call(entry, 0)
        claim = self._connection.begin_transition(name, keys, *arguments)
        _, job_id, _, job, _, watchers = entry.fields[:6]
        try:
            return [Delivery(decode_job(job), _FIRST_TOKEN, False, entry.id, watchers, claim, queue=entry.queue)]
        except (VersionMismatch, msgspec.DecodeError) as error:
            await self._refuse(job_id, _FIRST_TOKEN, watchers, error)
            return []

    def _count_start(self, delivery: int, queue_ms: int) -> None:
        self.last_wait_ms = queue_ms
        if delivery == 1:
            self._metrics.observe("request_queue_time_seconds", queue_ms / 1000, model=self._kind)
        self._metrics.count("jobs_started_total", model=self._kind)

    async def _refuse(self, job_id: bytes, token: int, watchers: bytes, error: Exception) -> None:
        _log.error("job %s: unreadable: %s", job_id.decode(), error)
        ending = encode_ending(Ending("failed", "job_failed", f"the worker cannot read the job: {error}"))
        keys = (*self._keys.of_job(job_id.decode()), *map(self._keys.inbox, watchers.decode().split()))
        await self._connection.transition("publish", keys, job_id, token, 1, "failed", ending, self._lease_ms)

    async def _accept(self, entry: Entry, claim: list[Any]) -> list[Delivery]:
        _, token, number, is_isolated, queue_ms, pixels, watchers = claim
        job_id = entry.fields[1]
        if number > 1:
            self._metrics.count("jobs_recovered_total", model=self._kind)
            _log.warning("job %s: taken over, delivery %d", job_id.decode(), number)
        self._count_start(number, queue_ms)
        try:
            job = decode_job(entry.fields[3])
            if pixels and not isinstance(job, PaintJob):
                job = msgspec.structs.replace(job, pixels=pixels)
            is_alone = bool(is_isolated)
            return [Delivery(job, token, is_alone, entry.id, watchers, number=number, queue=entry.queue)]
        except (VersionMismatch, msgspec.DecodeError) as error:
            await self._refuse(job_id, token, watchers, error)
            return []
