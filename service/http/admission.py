"""One job of one request: its slot, what may go wrong before it is queued, its client."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import msgspec
from starlette.requests import Request

from models.jobs import ChatJob, Model, PaintJob
from service.access.api_keys import ApiKey
from service.access.limits import KeyUse
from service.core.current_request import note_job, note_queued
from service.core.errors import (
    BusUnavailable,
    Cancelled,
    InvalidRequest,
    JobFailed,
    QueueFull,
    RateLimited,
    ServiceError,
    WebhooksDisabled,
)
from service.http.access.authentication import require_model
from service.http.access.idempotency import KeyClaim
from service.http.dependencies import ApiState, caller_of, deadline_of
from service.http.error_handlers import from_exception
from service.http.middleware import ANSWER_HEADERS
from service.http.sse import until_disconnect
from service.jobs.gated_queue import GatedQueue, new_job_id
from service.jobs.intents import ChatIntent, PaintIntent
from service.jobs.screened_stream import JobStream
from service.queue.record import Priority

_log = logging.getLogger(__name__)

_LISTEN_AFTER_S = 0.05  # into a request; one that is answered sooner costs no task for it


class Slot:
    """A slot that was asked for, and the job that will use it."""

    def __init__(
        self,
        queue: GatedQueue,
        kind: Model,
        tenant: str,
        lease_s: float,
        key: ApiKey | None,
        claimed_id: str | None = None,
        deadline_s: float | None = None,
        priority: Priority = "interactive",
        callback_url: str = "",
    ) -> None:
        self.job_id = new_job_id(kind) if claimed_id is None else claimed_id
        self._ends_s = None if deadline_s is None else asyncio.get_running_loop().time() + deadline_s
        self._outlives_client = claimed_id is not None
        self.is_queued = False
        self.is_client_gone = False
        self._queue = queue
        self._key_id = "" if key is None else key.id
        self._priority = priority
        self._callback_url = callback_url
        self._reservation = queue.reserve(kind, self.job_id, tenant, key, priority)
        note_job(self.job_id)
        self._renew_s = lease_s / 3
        self._renewing: asyncio.Task[None] | None = None
        # Most requests are queued before that, and cost no task
        self._renewal = asyncio.get_running_loop().call_later(self._renew_s, self._begin_renewing)

    @property
    def key_use(self) -> KeyUse | None:
        """What the request's API key has used, once that is known."""
        return self._reservation.key_use

    async def granted(self) -> None:
        """Wait for the slot: before any work on the request that costs more than a text.

        Raises QueueFull, RateLimited.
        """
        await self._reservation

    async def submit(self, job: ChatJob | PaintJob, intent: ChatIntent | PaintIntent) -> JobStream:
        """Queue the job; what comes of it. Raises QueueFull, RateLimited, and as GatedQueue.submit."""
        if self._key_id:
            intent = msgspec.structs.replace(intent, key_id=self._key_id)
            if isinstance(job, PaintJob):
                intent = msgspec.structs.replace(intent, steps=job.candidates * job.num_inference_steps)
        left_s = None if self._ends_s is None else self._ends_s - asyncio.get_running_loop().time()
        try:
            stream = await self._queue.submit(job, intent, left_s, self._priority, self._callback_url)
        except ServiceError:
            await self._reservation  # where there was no slot, that is why
            raise
        self.is_queued = True
        note_queued()
        self._end_renewing()
        return stream

    def close(self) -> None:
        """The request is over."""
        self._end_renewing()
        self._queue.forget(self.job_id)

    def _end_renewing(self) -> None:
        self._renewal.cancel()
        if self._renewing is not None:
            self._renewing.cancel()

    def _begin_renewing(self) -> None:
        self._renewing = asyncio.create_task(self._renew())

    async def _renew(self) -> None:
        """Keep the slot while the request's picture is fetched, decoded and judged."""
        is_kept = True
        while is_kept:
            with suppress(BusUnavailable):  # the next one may come in time
                is_kept = await self._queue.renew_slot(self.job_id)
            await asyncio.sleep(self._renew_s)

    async def cancel(self) -> None:
        """The client is gone. One with an Idempotency-Key comes back for the answer."""
        if self._outlives_client:
            return
        self.is_client_gone = True
        await self._queue.cancel(self.job_id, "client_gone")


class _Listener:
    """Cancels a slot's job once its client is gone, from _LISTEN_AFTER_S on."""

    def __init__(self, request: Request, slot: Slot) -> None:
        self._listening: asyncio.Task[None] | None = None
        self._beginning = asyncio.get_running_loop().call_later(_LISTEN_AFTER_S, self._begin, request, slot)

    def _begin(self, request: Request, slot: Slot) -> None:
        self._listening = asyncio.create_task(until_disconnect(request.receive, slot.cancel))

    def cancel(self) -> None:
        self._beginning.cancel()
        if self._listening is not None:
            self._listening.cancel()


@asynccontextmanager
async def admitted(
    request: Request,
    state: ApiState,
    kind: Model,
    tenant: str,
    claim: KeyClaim | None = None,
    priority: Priority = "interactive",
    callback_url: str | None = None,
    index: int = 0,
) -> AsyncIterator[Slot]:
    """A slot for one job; while inside, a client that goes away takes the job along.

    Args:
        claim: of the request's Idempotency-Key, which is free again where there was no slot.
        priority: batch jobs wait for others, and leave half of the slots to them.
        index: of the job among those of a request for several answers.
        callback_url: that is told of the job's end, once `require_callback` took it.

    What is raised before the job is queued ends it: as refused where the request is at fault, else as failed. Raises
    QueueFull, BusUnavailable, at the latest where the job is queued; InsufficientScope before anything else.
    """
    caller = caller_of(request)
    require_model(request, state, kind)
    deadline_s = deadline_of(request)
    if caller.is_batch:
        priority = "batch"
    lease_s = state.settings.slot_lease_s
    job_id = None if claim is None else claim.job_ids[index]
    slot = Slot(state.queue, kind, tenant, lease_s, caller.key, job_id, deadline_s, priority, callback_url or "")
    listener = _Listener(request, slot)
    try:
        if state.settings.asks_about_texts:  # no one without a slot takes a guard's time
            await slot.granted()
        if callback_url is not None and state.webhooks is not None:
            await slot.granted()
            await state.webhooks.require_allowed(callback_url)
        yield slot
    except Exception as error:
        reported = _reported(error, slot)
        if not slot.is_queued:
            reported = await _failed(state.queue, slot, reported)
        if isinstance(reported, QueueFull | RateLimited):
            state.metrics.count("queue_rejections_total", model=kind, reason=reported.code)
            if claim is not None:
                with suppress(BusUnavailable):  # then the claim's own time ends it
                    await state.idempotency.release(tenant, claim.key, claim.job_id)
        if reported.status == 500:
            reported.extra = {"job_id": slot.job_id, **reported.extra}
        raise reported from error.__cause__
    finally:
        listener.cancel()
        slot.close()
        tell_key_use(request, slot.key_use)


def _reported(error: Exception, slot: Slot) -> ServiceError:
    """What the client is told."""
    if isinstance(error, JobFailed) and slot.is_client_gone and not slot.is_queued:
        return Cancelled("the client went away before its job was queued")
    if not isinstance(error, ServiceError):
        _log.exception("job %s broke", slot.job_id)
    return from_exception(error)


async def _failed(queue: GatedQueue, slot: Slot, error: ServiceError) -> ServiceError:
    """End a job that was not queued; where it had no slot, QueueFull or RateLimited."""
    try:
        await slot.granted()
        await queue.fail(slot.job_id, error.code, error.message)
    except (QueueFull, RateLimited) as full:
        return full
    except ServiceError:  # where Redis is away, the slot's lease ends the job
        pass
    return error


def tell_key_use(request: Request, use: KeyUse | None) -> None:
    """In the answer's headers, whatever the answer is."""
    if use is not None:
        request.scope[ANSWER_HEADERS] = [*request.scope.get(ANSWER_HEADERS, ()), *use.headers()]


def wants_async(request: Request) -> bool:
    """Whether the client asked not to wait: `Prefer: respond-async` (RFC 7240), or `?async=true`.

    Raises InvalidRequest.
    """
    asked = request.query_params.get("async", "false")
    if asked.lower() not in ("true", "1", "false", "0"):
        raise InvalidRequest(f"async: must be true or false, got {asked[:40]!r}", param="async")
    if asked.lower() in ("true", "1"):
        return True
    preferences = ",".join(request.headers.getlist("prefer")).lower().split(",")
    return any(preference.partition(";")[0].strip() == "respond-async" for preference in preferences)


def require_callback(request: Request, state: ApiState, url: str | None) -> None:
    """Whether the request may name one, before a slot is asked for; `admitted` looks at where it leads.

    Raises WebhooksDisabled, InvalidRequest.
    """
    if url is None:
        return
    if state.webhooks is None:
        raise WebhooksDisabled(
            "callback_url: nobody is called back from here, as no secret is set to sign with "
            "(VISCPM_WEBHOOK_SECRET); ask for the job by its id instead",
            param="callback_url",
        )
    if not wants_async(request):
        raise InvalidRequest(
            "callback_url: is for a request that does not wait for its answer; send `Prefer: respond-async` or "
            "?async=true along, or leave it out",
            param="callback_url",
        )
