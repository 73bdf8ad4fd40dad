"""Jobs by id: for clients that did not wait, lost their connection, or changed their mind."""

from collections.abc import Collection
from typing import Annotated

import msgspec
from fastapi import APIRouter, Header, Path, Query, Request
from pydantic import WithJsonSchema
from starlette.responses import Response

from service.core.errors import InvalidRequest, ServiceError, error_body
from service.http.dependencies import job_of, state_of, tenant_of
from service.http.openapi import documented
from service.http.routes.responses import answered, begin_of, chat_events, origin_of, paint_events
from service.http.schemas.errors import ErrorDetail
from service.http.schemas.jobs import JobList, JobResponse, ListedJob
from service.http.schemas.requests import MAX_ID_CHARS
from service.http.sse import EventStream
from service.jobs.answers import Include, answer_of, outcome_of
from service.jobs.gated_queue import GatedQueue
from service.jobs.progress import JobProgress
from service.queue.record import JobRecord

router = APIRouter(prefix="/jobs", tags=["jobs"])

JobId = Annotated[str, Path(max_length=MAX_ID_CHARS)]
IncludeQuery = Annotated[
    list[Include], Query(alias="include", max_length=8, description="As the field of this name of a request.")
]
_NOTHING_MORE: list[Include] = []
_NO_PROGRESS = JobProgress()


@router.get("", summary="Jobs", **documented(JobList, statuses=(404, 503), access="any"))
async def list_jobs(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str, Query(max_length=MAX_ID_CHARS, description="`last_id` of the page before.")] = "",
) -> Response:
    """Those of one's own tenant that can still be read, newest first, without their answers.

    A page may be shorter than `limit` and not the last: `has_more` says whether there are more.
    """
    page = await state_of(request).queue.jobs_of(tenant_of(request), limit, after)
    listed = [
        ListedJob(id=job.job_id, kind=job.kind, state=job.state, created=job.created_ms // 1000)
        for job in page.jobs
        if job.kind != "safety"
    ]
    return answered(JobList(data=listed, has_more=page.has_more, last_id=page.last_id))


@router.get("/{job_id}", summary="A job", **documented(JobResponse, statuses=(404, 503), access="any"))
async def get_job(request: Request, job_id: JobId, include: IncludeQuery = _NOTHING_MORE) -> Response:
    """Where it is, and when it will be done; once it has ended, its answer or its error, for the retention time."""
    record = await job_of(request, job_id)
    progress = await state_of(request).queue.progress(job_id, record)
    return answered(_described(job_id, record, include, progress))


@router.get(
    "/{job_id}/events",
    summary="A job's stream",
    **documented(None, stream=True, statuses=(404, 429, 503), access="any"),
)
async def get_events(
    request: Request,
    job_id: JobId,
    include: IncludeQuery = _NOTHING_MORE,
    last_event_id: Annotated[
        str | None, WithJsonSchema({"type": "string", "pattern": "^[0-9]{1,9}$"}), Header()
    ] = None,
) -> Response:
    """The job's events from its beginning or, with `Last-Event-ID`, those after it. Going away does not cancel the job.

    Of one job as many may be open as VISCPM_MAX_WATCHERS allows.
    """
    status = await job_of(request, job_id)
    state = state_of(request)
    after_id = _event_id(last_event_id)
    if status.kind == "paint":
        stream, origin = state.queue.watch("paint", job_id), origin_of(job_id, status)
        return EventStream(paint_events(stream, origin, state.labels, include, after_id))
    begin = begin_of(job_id, status)
    return EventStream(chat_events(state.queue.watch("chat", job_id), begin, after_id, include))


@router.delete("/{job_id}", summary="Cancel a job", **documented(JobResponse, statuses=(404, 503), access="any"))
async def cancel_job(request: Request, job_id: JobId) -> Response:
    """Stops it within one step. A job that has ended stays as it is; the answer says how it ended."""
    await job_of(request, job_id)
    await state_of(request).queue.cancel(job_id, "deleted")
    return answered(_described(job_id, await job_of(request, job_id)))


async def ended_job(queue: GatedQueue, job_id: str) -> bytes | None:
    """What `GET /jobs/{id}` tells of a job that has ended; None: it is forgotten."""
    record = await queue.status(job_id)
    return None if record is None or record.ending is None else msgspec.json.encode(_described(job_id, record))


def _described(
    job_id: str, status: JobRecord, include: Collection[Include] = (), progress: JobProgress = _NO_PROGRESS
) -> JobResponse:
    assert status.kind != "safety"
    described = JobResponse(
        id=job_id,
        kind=status.kind,
        state=status.state,
        created=status.created_ms // 1000,
        position=progress.position,
        step=progress.step,
        total_steps=progress.total_steps,
        eta_s=progress.eta_s,
    )
    if status.ending is not None:
        try:
            described.answer = answer_of(outcome_of(status.ending, status.kind), job_id, include)
        except ServiceError as error:
            described.error = msgspec.convert(error_body(error)["error"], ErrorDetail)
    return described


def _event_id(last_event_id: str | None) -> int:
    if last_event_id is None:
        return 0
    if not (last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) <= 9):
        raise InvalidRequest(
            f"Last-Event-ID: must be an event id of this stream (up to 9 digits), got {last_event_id[:40]!r}"
        )
    return int(last_event_id)
