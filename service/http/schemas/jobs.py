"""Where a job is."""

from typing import Literal

import msgspec

from service.http.schemas.errors import ErrorDetail
from service.jobs.answers import ChatResponse, PaintResponse


class JobResponse(msgspec.Struct, kw_only=True):
    """Where a job is; with its answer or its error once it has ended."""

    id: str
    kind: Literal["chat", "paint"]
    state: Literal["reserved", "queued", "running", "generated", "done", "refused", "failed", "cancelled"]
    created: int
    object: Literal["job"] = "job"
    answer: ChatResponse | PaintResponse | None = None
    error: ErrorDetail | None = None
