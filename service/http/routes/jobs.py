"""Jobs by id: for clients that did not wait, lost their connection, or changed their mind."""

from collections.abc import Collection
from typing import Annotated

import msgspec
from fastapi import APIRouter, Header, Path, Query, Request
from starlette.responses import Response

from service.core.errors import InvalidRequest, ServiceError, error_body
from service.http.dependencies import job_of, state_of
from service.http.openapi import documented
from service.http.routes.responses import answered, begin_of, chat_events, origin_of, paint_events
from service.http.schemas.errors import ErrorDetail
from service.http.schemas.jobs import JobResponse
from service.http.schemas.requests import MAX_ID_CHARS
from service.http.sse import EventStream
from service.jobs.answers import Include, answer_of, outcome_of
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
    return answered(_described(job_id, await job_of(request, job_id), include))


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
    status = await job_of(request, job_id)
    state = state_of(request)
    after_chars = _characters(last_event_id) if status.kind == "chat" else 0
    if status.kind == "paint":
        origin = origin_of(job_id, status)
        return EventStream(paint_events(state.queue.watch("paint", job_id), origin, state.labels, include))
    begin = begin_of(job_id, status)
    return EventStream(chat_events(state.queue.watch("chat", job_id), begin, after_chars, include))


@router.delete("/{job_id}", summary="Cancel a job", **documented(JobResponse, statuses=(404, 503), access="any"))
async def cancel_job(request: Request, job_id: JobId) -> Response:
    """Stops it within one step. A job that has ended stays as it is; the answer says how it ended."""
    await job_of(request, job_id)
    await state_of(request).queue.cancel(job_id, "deleted")
    return answered(_described(job_id, await job_of(request, job_id)))


def _described(job_id: str, status: JobRecord, include: Collection[Include] = ()) -> JobResponse:
    assert status.kind != "safety"
    described = JobResponse(id=job_id, kind=status.kind, state=status.state, created=status.created_ms // 1000)
    if status.ending is not None:
        try:
            described.answer = answer_of(outcome_of(status.ending, status.kind), job_id, include)
        except ServiceError as error:
            described.error = msgspec.convert(error_body(error)["error"], ErrorDetail)
    return described


def _characters(last_event_id: str | None) -> int:
    if last_event_id is None:
        return 0
    if not (last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) <= 9):
        raise InvalidRequest(
            f"Last-Event-ID: must be an event id of this stream (up to 9 digits), got {last_event_id[:40]!r}"
        )
    return int(last_event_id)
