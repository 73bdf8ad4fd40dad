"""The only object through which a route reaches a model.

What goes in is judged before it is queued, what comes out before it leaves.
"""

import asyncio
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import msgspec

from models.jobs import ChatJob, Kind, Model, PaintJob
from safety.contents import Inputs
from safety.gate import Gate, ScreenFailed
from safety.verdict import Picture, Stage, Verdict
from service.access.api_keys import ApiKey
from service.access.limits import KeyUse
from service.core.errors import ContentRefused, Deadline, ScreenUnavailable, TooManyWatchers
from service.jobs.answers import refused
from service.jobs.finalizer import Finalizer
from service.jobs.intents import ChatIntent, Intent, PaintIntent, inputs_of, moderation_of
from service.jobs.progress import JobProgress, progress_of
from service.jobs.screened_stream import JobStream, ScreenedStream
from service.queue.listing import JobPage
from service.queue.producer import JobProducer
from service.queue.record import JobRecord, Priority
from service.queue.reservation import Reservation

_ID_BYTES = 18
_POLL_WAIT_S = 1.0  # for the screening of a result that somebody polls


def new_job_id(kind: Model) -> str:
    """One that nobody guesses: it is all that a stream is found by."""
    return f"{kind}-{secrets.token_urlsafe(_ID_BYTES)}"


class GatedQueue:
    """Holds the queue and the gate. Every call raises BusUnavailable where Redis does not serve it."""

    def __init__(self, producer: JobProducer, gate: Gate, finalizer: Finalizer) -> None:
        self._max_watchers = producer.settings.max_watchers
        self._producer = producer
        self._gate = gate
        self._finalizer = finalizer
        self._streams: dict[str, ScreenedStream] = {}  # by job id

    @property
    def is_open(self) -> bool:
        """True where nothing is screened."""
        return self._gate.is_open

    def reserve(
        self, kind: Kind, job_id: str, tenant: str, key: ApiKey | None = None, priority: Priority = "interactive"
    ) -> Reservation:
        """Ask for a slot, within the key's limits; from its grant on the job ends exactly once."""
        return self._producer.reserve(kind, job_id, tenant, key, priority)

    async def take_request(self, key: ApiKey) -> KeyUse:
        """Count a request that makes no job against its key's limits. Raises RateLimited."""
        return await self._producer.take_request(key)

    async def renew_slot(self, job_id: str) -> bool:
        """Keep a slot that is not used yet. False: it is lost."""
        return await self._producer.renew_slot(job_id)

    def forget(self, job_id: str) -> None:
        """The request is over, whether its job was queued or not."""
        self._producer.forget(job_id)

    async def submit(
        self,
        job: ChatJob | PaintJob,
        intent: ChatIntent | PaintIntent,
        deadline_s: float | None = None,
        priority: Priority = "interactive",
        callback_url: str = "",
    ) -> JobStream:
        """Have a job's inputs judged, and queue it. Returns what comes of it, from its beginning.

        Args:
            deadline_s: from now on, screens included; None: the service's own, from when it is queued.
            callback_url: which is told of the ending; empty: nobody is.

        Raises:
            ContentRefused: an input is blocked. The job has ended as refused.
            ScreenUnavailable: a screen gave no verdict. The job has ended as failed.
            Deadline: that is over before the job could be queued.
            JobFailed, JobLost: its slot was lost or cancelled meanwhile.
        """
        began_s = asyncio.get_running_loop().time()
        verdicts = await self._judged(job, intent)
        if verdicts:
            intent = msgspec.structs.replace(intent, moderation=moderation_of(verdicts))
        stream = self.follow("chat" if isinstance(job, ChatJob) else "paint", job.job_id, intent)
        try:
            if deadline_s is not None:
                deadline_s -= asyncio.get_running_loop().time() - began_s
                if deadline_s <= 0:
                    raise Deadline("the request's deadline was over before its job could be queued")
            await self._producer.submit(job, intent, deadline_s, priority, callback_url)
        except BaseException:
            stream.close()
            raise
        return stream

    def follow(self, kind: Kind, job_id: str, intent: Intent | None = None) -> JobStream:
        """What may leave of a job, from its beginning. Close it, or leave it as a context manager.

        Args:
            intent: of a job that this process is about to queue.
        """
        return JobStream(self._entered(kind, job_id, intent), self._leave)

    def watch(self, kind: Kind, job_id: str) -> JobStream:
        """Follow a job that another request asked for. Raises TooManyWatchers."""
        stream = self._entered(kind, job_id)
        if stream.num_watchers >= self._max_watchers:
            self._leave(stream)
            raise TooManyWatchers(
                f"{stream.num_watchers} clients follow this job already, which is all that may; ask again later, or "
                "for the job itself"
            )
        stream.num_watchers += 1
        return JobStream(stream, self._leave_watching)

    async def status(self, job_id: str) -> JobRecord | None:
        """A job's state and ending; a result that waits for its screening is waited for, a while."""
        record = await self._producer.record(job_id)
        if record is not None and record.state == "generated":
            with suppress(TimeoutError):
                async with asyncio.timeout(_POLL_WAIT_S):
                    await self._finalized(record.kind, job_id)
            record = await self._producer.record(job_id)
        return record

    async def progress(self, job_id: str, record: JobRecord) -> JobProgress:
        """How far a job is; nothing where it has ended."""
        if record.state not in ("queued", "running"):
            return JobProgress()
        return progress_of(record, await self._producer.place(job_id, record.kind))

    async def jobs_of(self, tenant: str, limit: int, after: str = "") -> JobPage:
        """A tenant's jobs, newest first, those after the job `after`. Raises JobNotFound."""
        return await self._producer.jobs_of(tenant, limit, after)

    async def cancel(self, job_id: str, reason: str) -> bool:
        """End a job as cancelled. False: it had ended."""
        return await self._producer.cancel(job_id, reason)

    async def fail(self, job_id: str, code: str, message: str) -> bool:
        """End a job that could not be queued: refused where its request is at fault. False: it had ended."""
        return await self._finalizer.fail(job_id, code, message)

    async def judge(self, content_id: str, stage: Stage, content: str | Picture) -> Verdict:
        """A verdict and nothing else, for who wants to know. Raises ScreenUnavailable, also with an open gate."""
        try:
            return await self._gate.judge(content_id, stage, content)
        except ScreenFailed as failed:
            raise ScreenUnavailable(str(failed)) from failed

    async def require_allowed(self, content_id: str, inputs: Inputs) -> None:
        """Have judged what is taken in without a job. Raises ContentRefused, ScreenUnavailable."""
        try:
            verdicts = await self._gate.moderate_inputs(content_id, inputs)
        except ScreenFailed as failed:
            raise ScreenUnavailable(str(failed)) from failed
        for verdict in verdicts:
            if verdict.is_blocked:
                raise _refusal(_of_input(verdict))

    async def _judged(self, job: ChatJob | PaintJob, intent: ChatIntent | PaintIntent) -> Sequence[Verdict]:
        try:
            verdicts = await self._gate.moderate_inputs(job.job_id, inputs_of(job, intent))
        except ScreenFailed as failed:
            await self._finalizer.fail(job.job_id, ScreenUnavailable.code, str(failed))
            raise ScreenUnavailable(str(failed)) from failed
        for verdict in verdicts:
            if verdict.is_blocked:
                verdict = _of_input(verdict)
                await self._finalizer.refuse_inputs(job.job_id, verdict)
                raise _refusal(verdict)
        return verdicts

    async def _finalized(self, kind: Kind, job_id: str) -> None:
        """Wait for the job's ending, or until another process is known to be at it."""
        if job_id in self._streams:  # it knows what was sent of the answer
            async with self.follow(kind, job_id) as stream:
                await stream.outcome()
        else:
            await self._finalizer.adopt(job_id)

    def _entered(self, kind: Kind, job_id: str, intent: Intent | None = None) -> ScreenedStream:
        stream = self._streams.get(job_id)
        if stream is None:
            stream = ScreenedStream(job_id, kind, intent, self._producer, self._gate, self._finalizer)
            self._streams[job_id] = stream
        stream.num_followers += 1
        return stream

    def _leave_watching(self, stream: ScreenedStream) -> None:
        stream.num_watchers -= 1
        self._leave(stream)

    def _leave(self, stream: ScreenedStream) -> None:
        stream.num_followers -= 1
        if not stream.num_followers:
            stream.close()
            del self._streams[stream.job_id]


def _of_input(verdict: Verdict) -> Verdict:
    """The policy's words for an answer are about one that is being given."""
    if verdict.stage != "answer":
        return verdict
    return replace(verdict, message="an earlier answer in the request is not allowed here")


def _refusal(verdict: Verdict) -> ContentRefused:
    message = verdict.message or f"the {verdict.stage} is not allowed here"
    return refused(message, {"input": moderation_of([verdict])}, param=verdict.stage)
