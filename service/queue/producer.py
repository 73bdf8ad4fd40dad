"""The API's side of the queue: slots, jobs, their events and their one ending.

A request makes three calls (reserve, submit, finish) and reads nothing: events come through the process' inbox, one
stream that one task drains for all requests. Whatever an inbox misses (Redis away, trimmed, late) is read again from
the job's own record and events, so a subscription sees each event once and in order.
"""

import asyncio
import logging
from collections.abc import Generator
from contextlib import suppress
from typing import Any

import msgspec

from models.jobs import ChatJob, Job, Kind, PaintJob, encode
from service.core.backoff import Backoff
from service.core.errors import BusUnavailable, JobFailed, JobLost, NoWorker, QueueFull
from service.core.metrics import Metrics
from service.core.settings import Settings
from service.core.tasks import TaskSupervisor, stop_tasks
from service.queue.connection import BlockingReader, RedisConnection, RedisServers
from service.queue.inbox import send_to_inboxes
from service.queue.keys import KINDS, Keys
from service.queue.record import (
    END_STATES,
    RECORD_FIELDS,
    Ending,
    JobRecord,
    ResultClaim,
    SweepCounts,
    TurnAppend,
    encode_ending,
    read_record,
)
from service.queue.subscription import JobSubscription, lost

_log = logging.getLogger(__name__)

_BLOCK_S = 1.0
_INBOX_EXPIRY_S = 60.0
_DEADLINE_GRACE_S = 2.0  # the waiting process ends its job itself; the sweeper does it when that one is gone
_SWEEP_LIMIT = 100
_YIELDS = 4  # of the loop to who got an event, before the inbox is read again: writing to a socket takes its time
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.05, 1.0  # before the inbox is read again where Redis is away


class JobProducer:
    """One per API process. Every call raises BusUnavailable within 3 s when Redis does not serve it.

    Args:
        process_id: unique among the API processes of one Redis, also over restarts.
        metrics: where cancelled jobs are counted.
        tasks: keeps the reader of the inbox and the sign of life.
    """

    def __init__(
        self,
        redis: RedisServers,
        settings: Settings,
        process_id: str,
        metrics: Metrics | None = None,
        tasks: TaskSupervisor | None = None,
    ) -> None:
        self.process_id = process_id
        self.settings = settings
        self.keys = Keys(settings.redis_prefix)
        self._lease_ms = _ms(settings.lease_s)
        self._connection = RedisConnection(redis)
        self._reader = BlockingReader(redis)
        self._metrics = metrics
        self._subscriptions: dict[str, set[JobSubscription]] = {}
        self._own_keys = (*self.keys.of_jobs(), self.keys.inbox(process_id))
        self._unsubmitted: set[str] = set()  # reserved here, so a watch that starts now has missed nothing
        self._cursor = "0-0"
        self._out_since_s = float("inf")  # of the event loop's clock, where Redis takes no writes now
        self._supervisor = tasks or TaskSupervisor("api")
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start listening. Redis may be away: everything begins to work when it comes."""
        with suppress(BusUnavailable):
            await self._beat()
        start = self._supervisor.start
        self._tasks = [start("inbox", self._read_inbox), start("api_beat", self._keep_alive)]

    async def close(self) -> None:
        await stop_tasks(self._tasks)
        with suppress(BusUnavailable):
            await self._connection.transition("api_leave", self._own_keys, self.process_id)
        await self._reader.close()
        await self._connection.close()

    def reserve(self, kind: Kind, job_id: str, tenant: str = "") -> "Reservation":
        """Ask for a slot. From its grant on the job must end, and will: an abandoned slot ends as failed."""
        settings = self.settings
        self._unsubmitted.add(job_id)
        reply = self._connection.begin_transition(
            "reserve",
            self.keys.of_job(job_id),
            kind,
            job_id,
            self.process_id,
            tenant,
            settings.slots(kind),
            _ms(settings.slot_lease_s),
            settings.retained_s(kind) * 1000,
        )
        return Reservation(self, kind, job_id, reply)

    async def renew_slot(self, job_id: str) -> bool:
        """Keep the slot of a request that is still being prepared; False: it is lost."""
        lease_ms = _ms(self.settings.slot_lease_s)
        return bool(await self._connection.transition("renew_slot", self.keys.of_job(job_id), job_id, lease_ms))

    def forget(self, job_id: str) -> None:
        """Of a job that got no slot, or whose request is over."""
        self._unsubmitted.discard(job_id)

    async def submit(self, job: Job, intent: msgspec.Struct) -> None:
        """Queue a job whose slot is reserved; its deadline starts now.

        Args:
            intent: what finalizing this job needs, kept until the job has ended.

        Raises JobFailed when its slot was lost or cancelled meanwhile, JobLost, BusUnavailable.
        """
        kind = _kind_of(job)
        self._unsubmitted.discard(job.job_id)
        deadline_s = self.settings.deadline_s(kind)
        for subscription in self._subscriptions.get(job.job_id, ()):
            subscription.deadline = asyncio.get_running_loop().time() + deadline_s
        pixels = b""
        if not isinstance(job, PaintJob):  # stored apart: for a conversation that begins, and not in dead letters
            pixels, job = job.pixels, msgspec.structs.replace(job, pixels=b"")
        before = await self._connection.transition(
            "submit",
            self.keys.of_job(job.job_id),
            kind,
            job.job_id,
            encode(job),
            pixels,
            _intent_encoder.encode(intent),
            _ms(deadline_s),
            _ms(_DEADLINE_GRACE_S),
        )
        if before is None:
            raise lost(job.job_id)
        if before != b"reserved":
            raise JobFailed(f"job {job.job_id} was {before.decode()} before it could be queued")

    def subscribe(self, job_id: str) -> JobSubscription:
        """The job's events from its beginning, then its Ending. Enter it before `submit`."""
        return JobSubscription(self, job_id, has_missed=job_id not in self._unsubmitted)

    async def finish(self, job_id: str, ending: Ending, turn: TurnAppend | None = None) -> bool:
        """Write the ending, and the turn with it. False: the job had ended already.

        `done` needs a generated result. Raises JobLost, BusUnavailable.
        """
        data, keys = encode_ending(ending), self.keys.of_job(job_id)
        if turn is not None:
            keys = (*keys, *self.keys.conversation(turn.conversation), *self.keys.conversation_books)
        reply = await self._connection.transition("finish", keys, job_id, ending.state, data, *_turn_arguments(turn))
        self._unsubmitted.discard(job_id)
        if reply is None:
            raise lost(job_id)
        before, kind, *watchers = reply
        if before == b"ended":
            return False
        if ending.state == "done" and before != b"generated":
            raise RuntimeError(f"job {job_id} is {before.decode()}: only a generated one can be done")
        await self._tell_end(job_id, data, watchers[0])
        if ending.state == "cancelled":
            self._count_cancelled(kind, before)
        return True

    async def cancel(self, job_id: str, reason: str) -> bool:
        """End a job as cancelled, wherever it is; `reason` becomes the ending's code. False: it had ended.

        A queued job never starts, a running one stops within a step. Raises JobLost, BusUnavailable.
        """
        return await self.finish(job_id, Ending("cancelled", reason, f"the job was cancelled: {reason}"))

    async def record(self, job_id: str) -> JobRecord | None:
        """What Redis knows of a job. None: unknown, or past its retention."""
        return read_record(await self._connection.send("HMGET", self.keys.job(job_id), *RECORD_FIELDS))

    async def claim_result(self, job_id: str) -> ResultClaim | None:
        """Take the lease on a generated job's result. None: another process holds it, or the job is not generated."""
        reply = await self._connection.transition(
            "claim_result", self.keys.of_job(job_id), job_id, self.process_id, self._lease_ms
        )
        return None if reply is None else ResultClaim(reply[0], reply[1], reply[2] / 1000)

    async def renew_result(self, job_id: str) -> bool:
        """Keep the lease on a result; False: it is lost, or the job has ended."""
        keys = self.keys.of_job(job_id)
        return bool(await self._connection.transition("renew_result", keys, job_id, self.process_id, self._lease_ms))

    async def abandoned(self) -> list[str]:
        """Generated jobs that nobody finalizes: the process that held them is gone, or did not manage in time."""
        ids = await self._connection.transition("abandoned", self.keys.of_jobs(), _SWEEP_LIMIT)
        return [job_id.decode() for job_id in ids]

    async def sweep(self) -> SweepCounts:
        """End what outlived its slot."""
        counts = SweepCounts()
        overdue = await self._connection.transition("overdue", self.keys.of_jobs(), _SWEEP_LIMIT)
        calls = [("expire", self.keys.of_job(job_id.decode()), (kind, job_id)) for kind, job_id in overdue]
        for (kind, job_id), expired in zip(overdue, await self._connection.transitions(calls), strict=True):
            if isinstance(expired, BaseException):
                raise expired
            if expired is None:  # another process was faster, or its slot was renewed
                continue
            before, ending, watchers = expired
            await self._tell_end(job_id.decode(), ending, watchers)
            if before == b"reserved":
                counts.expired += 1
            elif before == b"lost":
                counts.lost += 1
            else:
                counts.overdue += 1
                self._count_cancelled(kind, before)
        return counts

    async def fail_unserved(self, kind: Kind) -> int:
        """End jobs of a model that no worker is left for, whoever queued them; how many. Reserved ones are let be."""
        job_ids = [job_id.decode() for job_id in await self._connection.send("ZRANGE", self.keys.slots(kind), 0, -1)]
        states = await asyncio.gather(*(self._connection.send("HGET", self.keys.job(one), "state") for one in job_ids))
        unserved = [one for one, state in zip(job_ids, states, strict=True) if state in (b"queued", b"running")]
        ended = 0
        for job_id in unserved[:_SWEEP_LIMIT]:
            message = f"job {job_id}: no {kind} worker is alive any more, ask again"
            with suppress(JobLost):
                ended += await self.finish(job_id, Ending("failed", NoWorker.code, message))
        return ended

    async def depth(self, kind: Kind) -> int:
        """Slots taken: reserved, queued, running and unscreened jobs of one model."""
        return int(await self._connection.send("ZCARD", self.keys.slots(kind)))

    async def accounting(self) -> dict[str, int]:
        """`{accepted,done,refused,failed,cancelled}:{kind}`, over all processes that ever were."""
        stored = await self._connection.send("HGETALL", self.keys.accounting)
        names = [f"{state}:{kind}" for state in ("accepted", *END_STATES) for kind in KINDS]
        return {name: int(stored.get(name.encode(), 0)) for name in names}

    async def follow(self, job_id: str, token: int, number: int) -> Any:
        """What came after an event, for a JobSubscription."""
        return await self._connection.transition(
            "follow", self.keys.of_job(job_id), job_id, self.process_id, token, number
        )

    def require_served(self, job_id: str) -> None:
        """Raises BusUnavailable where Redis has served nobody for longer than a request may wait for it."""
        if self._is_out:
            raise BusUnavailable(
                f"the queue's server has not taken anything for {self.settings.redis_outage_s:g} s; "
                f"{job_id} may still be finished: ask for it later"
            )

    def enter(self, subscription: JobSubscription) -> None:
        self._subscriptions.setdefault(subscription.job_id, set()).add(subscription)

    def leave(self, subscription: JobSubscription) -> None:
        subscriptions = self._subscriptions.get(subscription.job_id)
        if subscriptions is not None:
            subscriptions.discard(subscription)
            if not subscriptions:
                del self._subscriptions[subscription.job_id]

    async def _read_inbox(self) -> None:
        backoff = Backoff(_FIRST_WAIT_S, _LONGEST_WAIT_S)
        inbox = self.keys.inbox(self.process_id)
        await self._reader.close()  # started again: what was on its way there is read from the jobs' records
        self._all_have_missed()
        while True:
            try:
                entries = await self._read_news(inbox)
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

    async def _read_news(self, inbox: str) -> list[Any]:
        """Entries after the cursor, waiting for the first. Without a cursor: none, and from now on what is new."""
        if not self._cursor:
            newest = await self._connection.send("XREVRANGE", inbox, "+", "-", "COUNT", 1)
            self._cursor = newest[0][0] if newest else "0-0"
            return []
        command = ("XREAD", "COUNT", 1024, "BLOCK", _ms(_BLOCK_S), "STREAMS", inbox, self._cursor)
        reply = await self._reader.read(*command, block_s=_BLOCK_S)
        return reply[inbox.encode()] if reply else []

    def _hand_out(self, entries: list[Any]) -> None:
        self._cursor = entries[-1][0]  # first: an entry that cannot be handed out is not read again and again
        for _, (_, job_id, _, position, _, payload) in entries:
            for subscription in self._subscriptions.get(job_id.decode(), ()):
                subscription.put(position, payload)

    async def _tell_end(self, job_id: str, ending: bytes, watchers: bytes) -> None:
        """To all who wait for a job: those here at once, those of other processes through their inboxes."""
        for subscription in self._subscriptions.get(job_id, ()):
            subscription.put(b"end", ending)
        others = [process for process in watchers.decode().split() if process != self.process_id]
        if others:
            await send_to_inboxes(self._connection, self.keys, others, job_id, b"end", ending)

    def _count_cancelled(self, kind: bytes, before: bytes) -> None:
        if self._metrics is not None:
            where = "queued" if before in (b"reserved", b"queued") else "running"
            self._metrics.count("jobs_cancelled_total", model=kind.decode(), where=where)

    def _all_have_missed(self) -> None:
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.has_missed()

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(self.settings.heartbeat_s)
            try:
                await self._beat()
            except BusUnavailable:
                self._out_since_s = min(self._out_since_s, asyncio.get_running_loop().time())
                if self._is_out:
                    self._all_have_missed()  # who waits is told so

    @property
    def _is_out(self) -> bool:
        """Whether Redis is away, or refuses writes since its disk or memory is full, for longer than one may wait."""
        return asyncio.get_running_loop().time() - self._out_since_s > self.settings.redis_outage_s

    async def _beat(self) -> None:
        alive_ms = _ms(self.settings.heartbeat_expiry_s)
        inbox_ms = _ms(_INBOX_EXPIRY_S)
        if await self._connection.transition("api_beat", self._own_keys, self.process_id, alive_ms, inbox_ms):
            self._cursor = "0-0"  # a new inbox: its ids may start below the old one's
            self._all_have_missed()
        self._out_since_s = float("inf")


class Reservation:
    """A slot that was asked for. Awaiting it gives nothing, or raises QueueFull, BusUnavailable.

    What is asked of the producer before the answer is there travels together with the question, and comes after it:
    a job that needs no work before it is queued costs one exchange with Redis instead of two.
    """

    def __init__(self, producer: JobProducer, kind: Kind, job_id: str, reply: "asyncio.Future[Any]") -> None:
        self._producer = producer
        self._kind = kind
        self._job_id = job_id
        self._reply = reply

    def __await__(self) -> Generator[Any, None, None]:
        # Shielded: whoever stops waiting must not take the reply from others
        granted = yield from asyncio.shield(self._reply).__await__()
        if not granted:
            self._producer.forget(self._job_id)
            num_slots = self._producer.settings.slots(self._kind)
            raise QueueFull(f"all {num_slots} slots of {self._kind} are taken, try again later")


def _turn_arguments(turn: TurnAppend | None) -> list[Any]:
    if turn is None:
        return ["", "0", b"", 0, 0]
    fields = [part for item in turn.fields.items() for part in item]
    return [
        turn.conversation,
        "1" if turn.is_new else "0",
        turn.turn,
        turn.max_turns,
        turn.ttl_s * 1000,
        *fields,
    ]


def _kind_of(job: Job) -> Kind:
    if isinstance(job, ChatJob):
        return "chat"
    return "paint" if isinstance(job, PaintJob) else "safety"


def _ms(duration_s: float) -> int:
    return int(duration_s * 1000)


_intent_encoder = msgspec.msgpack.Encoder()
