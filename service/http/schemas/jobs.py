"""Where a job is."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from service.http.schemas.errors import ErrorDetail
from service.jobs.answers import ChatResponse, PaintResponse


class JobResponse(msgspec.Struct, kw_only=True):
    """Where a job is; with its answer or its error once it has ended."""

    id: str
    kind: Literal["chat", "paint"]
    state: Literal["reserved", "queued", "running", "generated", "done", "refused", "failed", "cancelled"]
    created: int
    object: Literal["job"] = "job"
    position: Annotated[int | None, Meta(description="Of a queued job: 1 is taken next.")] = None
    step: Annotated[int | None, Meta(description="Denoising steps done, of a running painting.")] = None
    total_steps: int | None = None
    eta_s: Annotated[float | None, Meta(description="Estimated seconds until it has ended; null: nobody knows.")] = None
    answer: ChatResponse | PaintResponse | None = None
    error: ErrorDetail | None = None


class ListedJob(msgspec.Struct, kw_only=True):
    """A job without what it gave: `GET /jobs/{id}` tells that."""

    id: str
    kind: Literal["chat", "paint"]
    state: Literal["reserved", "queued", "running", "generated", "done", "refused", "failed", "cancelled"]
    created: int
    object: Literal["job"] = "job"


class JobList(msgspec.Struct, kw_only=True):
    """A page of jobs, newest first; `last_id` as `after` gives the next one."""

    data: list[ListedJob]
    has_more: bool
    last_id: str | None = None
    object: Literal["list"] = "list"
