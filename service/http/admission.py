"""One job of one request: its slot, what may go wrong before it is queued, its client, its answer."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from starlette.requests import Request

from models.jobs import Job, Model
from safety.gate import GatedWatch, Refused, ScreenFailed
from service.core.errors import (
    Cancelled,
    ContentRefused,
    JobFailed,
    QueueFull,
    ScreenUnavailable,
    ServiceError,
)
from service.http.dependencies import ApiState
from service.http.error_handlers import from_exception
from service.http.sse import until_disconnect
from service.jobs.answers import Answer
from service.jobs.finalizer import answer_of, moderation_of

_log = logging.getLogger(__name__)


class Slot:
    """A granted slot and the job that will use it."""

    def __init__(self, state: ApiState, kind: Model, job_id: str) -> None:
        self.job_id = job_id
        self.kind = kind
        self.is_queued = False
        self._is_client_gone = False
        self._state = state
        self._intent = b""  # as it is kept, once the job is queued

    async def queue(self, job: Job, intent: bytes, busy_key: str = "") -> None:
        """Screen and submit the job. Raises ContentRefused, ScreenUnavailable, Cancelled, JobFailed, BusUnavailable."""
        try:
            self._intent = await self._state.gate.submit(job, intent, busy_key)
        except Refused as refused:
            verdict = refused.verdict
            moderation: dict[str, object] = {"moderation": {"input": moderation_of([verdict])}}
            raise ContentRefused(str(refused), param=verdict.stage, extra=moderation) from None
        except ScreenFailed as failed:
            raise ScreenUnavailable(str(failed)) from failed
        except JobFailed:
            if self._is_client_gone:
                raise Cancelled("the client went away before its job was queued") from None
            raise
        self.is_queued = True

    async def answer(self, job: Job, intent: bytes, busy_key: str = "") -> Answer:
        """Queue the job and wait for its answer. Raises ServiceError where there is none."""
        async with self._state.gate.watch(self.job_id) as watch:
            await self.queue(job, intent, busy_key)
            watch.intent = self._intent
            return answer_of(await watch.ending(), self.kind, self.job_id)

    def watch(self) -> GatedWatch:
        """What comes of the queued job, from its beginning."""
        return self._state.gate.watch(self.job_id, self._intent)

    def finish_in_background(self) -> None:
        """See the queued job to its ending without its client."""

        async def run() -> None:
            async with self.watch() as watch:
                await watch.ending()

        self._state.spawn(run(), f"job {self.job_id}")

    async def cancel(self) -> None:
        """The client is gone."""
        self._is_client_gone = True
        await self._state.gate.cancel(self.job_id, "client_gone")


@asynccontextmanager
async def admitted(request: Request, state: ApiState, kind: Model, tenant: str) -> AsyncIterator[Slot]:
    """A slot for one job; while inside, a client that goes away takes the job along.

    What is raised before the job is queued ends it as failed. Raises QueueFull at once, BusUnavailable.
    """
    slot = Slot(state, kind, f"{kind}-{secrets.token_urlsafe(18)}")
    try:
        await state.gate.reserve(kind, slot.job_id, tenant)
    except QueueFull as error:
        state.metrics.count("queue_rejections_total", model=kind, reason=error.code)
        raise
    listener = asyncio.create_task(until_disconnect(request.receive, slot.cancel))
    try:
        yield slot
    except Exception as error:
        told = error
        if not isinstance(error, ServiceError):
            _log.exception("job %s broke", slot.job_id)
            told = from_exception(error)
        assert isinstance(told, ServiceError)
        if not slot.is_queued:
            with suppress(ServiceError):  # where Redis is away, the slot's lease ends the job
                await state.gate.fail(slot.job_id, told.code, told.message)
        if told.status == 500:
            told.extra = {"job_id": slot.job_id, **told.extra}
        raise told from error.__cause__
    finally:
        listener.cancel()


def wants_async(request: Request) -> bool:
    """Whether the client asked not to wait (RFC 7240)."""
    preferences = request.headers.get("prefer", "").lower().split(",")
    return any(preference.strip() == "respond-async" for preference in preferences)
