"""One job of one request: its slot, what may go wrong before it is queued, its client."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from starlette.requests import Request

from models.jobs import ChatJob, Model, PaintJob
from service.core.errors import Cancelled, JobFailed, QueueFull, ServiceError
from service.http.dependencies import ApiState
from service.http.error_handlers import from_exception
from service.http.sse import until_disconnect
from service.jobs.gated_queue import GatedQueue
from service.jobs.intents import ChatIntent, PaintIntent
from service.jobs.screened_stream import JobStream

_log = logging.getLogger(__name__)


class Slot:
    """A granted slot and the job that will use it."""

    def __init__(self, queue: GatedQueue, job_id: str) -> None:
        self.job_id = job_id
        self.is_queued = False
        self.is_client_gone = False
        self._queue = queue

    async def submit(self, job: ChatJob | PaintJob, intent: ChatIntent | PaintIntent, busy_key: str = "") -> JobStream:
        """Queue the job; what comes of it. Raises as GatedQueue.submit."""
        stream = await self._queue.submit(job, intent, busy_key)
        self.is_queued = True
        return stream

    async def cancel(self) -> None:
        """The client is gone."""
        self.is_client_gone = True
        await self._queue.cancel(self.job_id, "client_gone")


@asynccontextmanager
async def admitted(request: Request, state: ApiState, kind: Model, tenant: str) -> AsyncIterator[Slot]:
    """A slot for one job; while inside, a client that goes away takes the job along.

    What is raised before the job is queued ends it as failed. Raises QueueFull at once, BusUnavailable.
    """
    slot = Slot(state.queue, f"{kind}-{secrets.token_urlsafe(18)}")
    try:
        await state.queue.reserve(kind, slot.job_id, tenant)
    except QueueFull as error:
        state.metrics.count("queue_rejections_total", model=kind, reason=error.code)
        raise
    listener = asyncio.create_task(until_disconnect(request.receive, slot.cancel))
    try:
        yield slot
    except Exception as error:
        told = error
        if isinstance(error, JobFailed) and slot.is_client_gone and not slot.is_queued:
            told = Cancelled("the client went away before its job was queued")
        elif not isinstance(error, ServiceError):
            _log.exception("job %s broke", slot.job_id)
            told = from_exception(error)
        assert isinstance(told, ServiceError)
        if not slot.is_queued:
            with suppress(ServiceError):  # where Redis is away, the slot's lease ends the job
                await state.queue.fail(slot.job_id, told.code, told.message)
        if told.status == 500:
            told.extra = {"job_id": slot.job_id, **told.extra}
        raise told from error.__cause__
    finally:
        listener.cancel()


def wants_async(request: Request) -> bool:
    """Whether the client asked not to wait (RFC 7240)."""
    preferences = request.headers.get("prefer", "").lower().split(",")
    return any(preference.strip() == "respond-async" for preference in preferences)
