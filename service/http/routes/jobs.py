"""Jobs by id: for clients that did not wait, lost their connection, or changed their mind."""

from collections.abc import Collection
from typing import Annotated

import msgspec
from fastapi import APIRouter, Header, Path, Query, Request
from starlette.responses import Response

from service.core.current_request import note_job
from service.core.errors import InvalidRequest, JobNotFound, ServiceError, error_body
from service.http.dependencies import state_of, tenant_of
from service.http.openapi import documented
from service.http.routes.responses import answered, chat_events, paint_events
from service.http.schemas.chat import ChatDelta
from service.http.schemas.errors import ErrorDetail
from service.http.schemas.jobs import JobResponse
from service.http.schemas.requests import MAX_ID_CHARS
from service.http.sse import EventStream
from service.image_output.ai_labels import Origin
from service.jobs.answers import ChatResponse, Include, answer_of, outcome_of
from service.jobs.intents import ChatIntent, PaintIntent, decode_intent
from service.queue.record import JobRecord

router = APIRouter(prefix="/jobs", tags=["jobs"])

JobId = Annotated[str, Path(max_length=MAX_ID_CHARS)]
IncludeQuery = Annotated[
    list[Include], Query(alias="include", max_length=8, description="As the field of this name of a request.")
]
_NOTHING_MORE: list[Include] = []


@router.get("/{job_id}", summary="A job", **documented(JobResponse, statuses=(404, 503), access="any"))
async def get_job(request: Request, job_id: JobId, include: IncludeQuery = _NOTHING_MORE) -> Response:
    """Where it is; once it has ended, its answer or its error, for the retention time."""
    return answered(_described(job_id, await _status(request, job_id), include))


@router.get(
    "/{job_id}/events",
    summary="A job's stream",
    **documented(None, stream=True, statuses=(404, 429, 503), access="any"),
)
async def get_events(
    request: Request,
    job_id: JobId,
    include: IncludeQuery = _NOTHING_MORE,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """The job's events from the beginning or, with `Last-Event-ID`, what came after. Going away does not cancel it.

    Of one job as many may be open as VISCPM_MAX_WATCHERS allows.
    """
    status = await _status(request, job_id)
    state = state_of(request)
    after_chars = _characters(last_event_id) if status.kind == "chat" else 0
    if status.kind == "paint":
        origin = _origin(job_id, status)
        return EventStream(paint_events(state.queue.watch("paint", job_id), origin, state.labels, include))
    begin = _begin(job_id, status)
    return EventStream(chat_events(state.queue.watch("chat", job_id), begin, after_chars, include))


@router.delete("/{job_id}", summary="Cancel a job", **documented(JobResponse, statuses=(404, 503), access="any"))
async def cancel_job(request: Request, job_id: JobId) -> Response:
    """Stops it within one step. A job that has ended stays as it is; the answer says how it ended."""
    await _status(request, job_id)
    await state_of(request).queue.cancel(job_id, "deleted")
    return answered(_described(job_id, await _status(request, job_id)))


async def _status(request: Request, job_id: str) -> JobRecord:
    status = await state_of(request).queue.status(job_id)
    if status is None or status.kind == "safety" or status.tenant != tenant_of(request):
        raise JobNotFound(f"no job {job_id!r}: it never was, or it ended longer ago than the retention time")
    note_job(job_id)
    return status


def _described(job_id: str, status: JobRecord, include: Collection[Include] = ()) -> JobResponse:
    assert status.kind != "safety"
    described = JobResponse(id=job_id, kind=status.kind, state=status.state, created=status.created_ms // 1000)
    if status.ending is not None:
        try:
            described.answer = answer_of(outcome_of(status.ending, status.kind), job_id, include)
        except ServiceError as error:
            described.error = msgspec.convert(error_body(error)["error"], ErrorDetail)
    return described


def _begin(job_id: str, status: JobRecord) -> ChatDelta:
    """The stream's first event; from the intent, or from the answer of a job that has ended."""
    begin = ChatDelta(id=job_id, created=status.created_ms // 1000, model="", conversation_id="", delta="", offset=0)
    if status.ending is not None and status.ending.state == "done":
        answer = answer_of(outcome_of(status.ending, "chat"), job_id)
        assert isinstance(answer, ChatResponse)
        begin.model, begin.conversation_id = answer.model, answer.conversation_id
    elif status.intent:
        intent = decode_intent(status.intent)
        assert isinstance(intent, ChatIntent)
        begin.model, begin.conversation_id = intent.model, intent.conversation_id
    return begin


def _origin(job_id: str, status: JobRecord) -> Origin:
    """Of the previews; their model is not known any more once the job has ended."""
    intent = decode_intent(status.intent) if status.intent else None
    return intent.origin(job_id) if isinstance(intent, PaintIntent) else Origin(job_id, status.created_ms // 1000)


def _characters(last_event_id: str | None) -> int:
    if last_event_id is None:
        return 0
    if not (last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) <= 9):
        raise InvalidRequest(
            f"Last-Event-ID: must be an event id of this stream (up to 9 digits), got {last_event_id[:40]!r}"
        )
    return int(last_event_id)
