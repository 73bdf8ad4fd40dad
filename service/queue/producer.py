"""The API's side of the queue: slots, jobs, their events and their one ending.

A request makes three calls (reserve, submit, finish; the first two as one where nothing has to be waited for between
them) and reads nothing: events come through the process' inbox, one stream that one task drains for all requests.
Whatever an inbox misses (Redis away, trimmed, late) is read again from the job's own record and events, so a
subscription sees each event once and in order.
"""

import asyncio
import logging
from contextlib import suppress
from typing import Any

import msgspec

from models.jobs import ChatJob, Job, Kind, PaintJob, encode
from service.access.api_keys import ApiKey, KeyLimits
from service.access.limits import KeyUse
from service.access.usage import today
from service.core.errors import JobFailed, JobLost, NoWorker
from service.core.metrics import Metrics
from service.core.settings import Settings
from service.core.tasks import TaskSupervisor
from service.queue.inbox import Inbox, send_to_inboxes
from service.queue.listing import JobPage, JobPlace, read_page, read_place
from service.queue.record import (
    END_STATES,
    RECORD_FIELDS,
    Ending,
    JobRecord,
    Priority,
    ResultClaim,
    SweepCounts,
    TurnAppend,
    UsageAppend,
    encode_ending,
    queue_of,
    read_record,
)
from service.queue.reservation import Reservation, SlotRequests, key_use
from service.queue.subscription import JobSubscription, lost
from service.redis.connection import BlockingReader, RedisConnection, RedisServers
from service.redis.keys import KINDS, Keys
from service.redis.server_connection import Argument

_log = logging.getLogger(__name__)

_DEADLINE_GRACE_S = 2.0  # the waiting process ends its job itself; the sweeper does it when that one is gone
_SWEEP_LIMIT = 100
_LISTED_SPARE_S = 60.0  # for which an ended job stays listed beyond its time, at most
_UNLIMITED = KeyLimits()


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
        self._usage_kept_ms = settings.usage_days * 86_400_000
        self._connection = RedisConnection(redis)
        self._metrics = metrics
        self._inbox = Inbox(
            self._connection, BlockingReader(redis), settings, process_id, tasks or TaskSupervisor("api")
        )
        self._slot_requests = SlotRequests(self._connection)
        self._unsubmitted: set[str] = set()  # reserved here, so a watch that starts now has missed nothing

    async def start(self) -> None:
        """Start listening. Redis may be away: everything begins to work when it comes."""
        await self._inbox.start()

    async def close(self) -> None:
        await self._inbox.close()
        await self._connection.close()

    def reserve(
        self,
        kind: Kind,
        job_id: str,
        tenant: str = "",
        key: ApiKey | None = None,
        priority: Priority = "interactive",
    ) -> Reservation:
        """Ask for a slot. From its grant on the job must end, and will: an abandoned slot ends as failed.

        Args:
            key: whose limits it counts against, in the same step, and whose weight is that of its tenant's share.
            priority: a batch job gets a slot while fewer than half of all are taken.
        """
        settings = self.settings
        num_slots = settings.slots(kind)
        if priority == "batch":
            num_slots = max(1, num_slots // 2)
        self._unsubmitted.add(job_id)
        of_key = () if key is None else self.keys.of_key(key.id, today())
        is_listed = bool(tenant) and kind != "safety"
        of_tenant = (self.keys.tenant_jobs(tenant),) if is_listed else ()
        limits = _UNLIMITED if key is None else key.limits
        keys = (*self.keys.of_job(job_id), *of_key, *of_tenant)
        arguments: tuple[Argument, ...] = (
            kind,
            job_id,
            self.process_id,
            tenant,
            num_slots,
            _ms(settings.slot_lease_s),
            settings.retained_s(kind) * 1000,
            _ms(settings.deadline_s(kind) + settings.retained_s(kind) + _LISTED_SPARE_S) if is_listed else 0,
            int(key is not None),
            limits.requests_per_min,
            limits.tokens_per_min,
            limits.max_jobs,
            self._usage_kept_ms,
            "" if key is None else key.weight,
        )
        return Reservation(self, num_slots, kind, job_id, limits, self._slot_requests.ask(job_id, keys, arguments))

    async def take_request(self, key: ApiKey) -> KeyUse:
        """Count a request that makes no job against its key's limits. Raises RateLimited."""
        keys, limits = (*self.keys.of_job(""), *self.keys.of_key(key.id, today())), key.limits
        is_granted, reason, used = await self._connection.transition(
            "take_request", keys, limits.requests_per_min, limits.tokens_per_min, self._usage_kept_ms
        )
        use = key_use(limits, used)
        if not is_granted:
            raise use.refusal(reason.decode())
        return use

    async def renew_slot(self, job_id: str) -> bool:
        """Keep the slot of a request that is still being prepared; False: it is lost."""
        lease_ms = _ms(self.settings.slot_lease_s)
        return bool(await self._connection.transition("renew_slot", self.keys.of_job(job_id), job_id, lease_ms))

    def forget(self, job_id: str) -> None:
        """Of a job that got no slot, or whose request is over."""
        self._unsubmitted.discard(job_id)
        self._slot_requests.forget(job_id)

    async def submit(
        self,
        job: Job,
        intent: msgspec.Struct,
        deadline_s: float | None = None,
        priority: Priority = "interactive",
        callback_url: str = "",
    ) -> None:
        """Queue a job whose slot is reserved; its deadline starts now.

        Args:
            intent: what finalizing this job needs, kept until the job has ended.
            deadline_s: sooner than the service's own.
            priority: batch jobs wait for interactive ones, but a few of these (WaitingJobs).
            callback_url: which is told of the ending (service/webhooks); empty: nobody is.

        Raises JobFailed when its slot was lost or cancelled meanwhile, JobLost, BusUnavailable.
        """
        kind = _kind_of(job)
        self._unsubmitted.discard(job.job_id)
        longest_s = self.settings.deadline_s(kind)
        deadline_s = longest_s if deadline_s is None else min(deadline_s, longest_s)
        for subscription in self._inbox.subscriptions(job.job_id):
            subscription.deadline = asyncio.get_running_loop().time() + deadline_s
        pixels = b""
        if not isinstance(job, PaintJob):  # stored apart: for a conversation that begins, and not in dead letters
            pixels, job = job.pixels, msgspec.structs.replace(job, pixels=b"")
        before = await self._queued(
            kind,
            job.job_id,
            encode(job),
            pixels,
            _intent_encoder.encode(intent),
            _ms(deadline_s),
            _ms(_DEADLINE_GRACE_S),
            queue_of(kind, priority),
            callback_url,
            _ms(self.settings.webhook_window_s) if callback_url else 0,
        )
        if before is None:
            raise lost(job.job_id)
        if before != b"reserved":
            raise JobFailed(f"job {job.job_id} was {before.decode()} before it could be queued")

    def ask_for_slot(self, job_id: str) -> None:
        """Now, if it is not asked for yet."""
        self._slot_requests.send(job_id)

    async def _queued(self, kind: Kind, job_id: str, *arguments: Argument) -> bytes | None:
        """The state before."""
        both = self._slot_requests.send_with_job(job_id, arguments)
        if both is None:
            before: bytes | None = await self._connection.transition(
                "submit", self.keys.of_job(job_id), kind, job_id, *arguments
            )
            return before
        _, *before_submit = await both
        return before_submit[0] if before_submit else None

    def subscribe(self, job_id: str) -> JobSubscription:
        """The job's events from its beginning, then its Ending. Enter it before `submit`."""
        return JobSubscription(self, job_id, has_missed=job_id not in self._unsubmitted)

    async def finish(
        self, job_id: str, ending: Ending, turn: TurnAppend | None = None, usage: UsageAppend | None = None
    ) -> bool:
        """Write the ending, the turn and what was used with it. False: the job had ended already.

        `done` needs a generated result. Raises JobLost, BusUnavailable.
        """
        self.ask_for_slot(job_id)  # before it ends
        data, keys = encode_ending(ending), self.keys.of_job(job_id)
        if turn is not None:
            keys = (*keys, *self.keys.conversation(turn.conversation), *self.keys.conversation_books)
        if usage is not None:
            keys = (*keys, *self.keys.of_key(usage.key_id, today()))
        used = b"" if usage is None else usage.counts
        reply = await self._connection.transition(
            "finish", keys, job_id, ending.state, data, used, self._usage_kept_ms, *_turn_arguments(turn)
        )
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

    async def place(self, job_id: str, kind: Kind) -> JobPlace:
        """Where a job is that has not ended."""
        return await read_place(self._connection, self.keys, job_id, kind)

    async def jobs_of(self, tenant: str, limit: int, after: str = "") -> JobPage:
        """A tenant's jobs that can still be read, newest first. Raises JobNotFound where `after` is none of them."""
        return await read_page(self._connection, self.keys, tenant, limit, after)

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
        self._inbox.require_served(job_id)

    def enter(self, subscription: JobSubscription) -> None:
        self._inbox.enter(subscription)

    def leave(self, subscription: JobSubscription) -> None:
        self._inbox.leave(subscription)

    async def _tell_end(self, job_id: str, ending: bytes, watchers: bytes) -> None:
        """To all who wait for a job: those here at once, those of other processes through their inboxes."""
        for subscription in self._inbox.subscriptions(job_id):
            subscription.put(b"end", ending)
        others = [process for process in watchers.decode().split() if process != self.process_id]
        if others:
            await send_to_inboxes(self._connection, self.keys, others, job_id, b"end", ending)

    def _count_cancelled(self, kind: bytes, before: bytes) -> None:
        if self._metrics is not None:
            where = "queued" if before in (b"reserved", b"queued") else "running"
            self._metrics.count("jobs_cancelled_total", model=kind.decode(), where=where)


def _turn_arguments(turn: TurnAppend | None) -> list[Any]:
    if turn is None:
        return ["", "0", b"", 0, 0, "0"]
    fields = [part for item in turn.fields.items() for part in item]
    return [
        turn.conversation,
        "1" if turn.is_new else "0",
        turn.turn,
        turn.max_turns,
        turn.ttl_s * 1000,
        "1" if turn.replaces_last else "0",
        *fields,
    ]


def _kind_of(job: Job) -> Kind:
    if isinstance(job, ChatJob):
        return "chat"
    return "paint" if isinstance(job, PaintJob) else "safety"


def _ms(duration_s: float) -> int:
    return int(duration_s * 1000)


_intent_encoder = msgspec.msgpack.Encoder()
