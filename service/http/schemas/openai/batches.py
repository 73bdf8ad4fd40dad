"""Batches in OpenAI's shape."""

from typing import Annotated, Literal, Self

import msgspec
from msgspec import Meta
from pydantic import Field, field_validator

from service.batches.batch_store import Batch, Status
from service.batches.lines import Endpoint
from service.http.schemas.requests import MAX_ID_CHARS, OpenRequest, plain_text

_MAX_METADATA, _MAX_KEY_CHARS, _MAX_VALUE_CHARS = 16, 64, 512


class BatchCreateRequest(OpenRequest):
    """A file of requests, and where they go."""

    input_file_id: str = Field(min_length=1, max_length=MAX_ID_CHARS)
    endpoint: Endpoint = Field(description="Of all of its lines.")
    completion_window: Literal["24h"] = Field(description="After which what is not done is not done any more.")
    metadata: dict[str, str] | None = Field(None, description="Up to 16 texts, told with the batch.")

    @field_validator("metadata")
    @classmethod
    def _check_metadata(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        if value is None:
            return None
        if len(value) > _MAX_METADATA:
            raise ValueError(f"has {len(value)} texts, at most {_MAX_METADATA} are allowed")
        for name, text in value.items():
            plain_text(name, _MAX_KEY_CHARS)
            plain_text(text, _MAX_VALUE_CHARS)
        return value


class BatchError(msgspec.Struct, kw_only=True):
    code: str
    message: str
    param: str | None
    line: Annotated[int | None, Meta(description="Of the input file, from 1.")]


class BatchErrors(msgspec.Struct, kw_only=True):
    data: list[BatchError]
    object: Literal["list"] = "list"


class RequestCounts(msgspec.Struct, kw_only=True):
    total: int
    completed: int
    failed: int


class BatchObject(msgspec.Struct, kw_only=True):
    """Where a batch is. Its files of results are told once it has ended."""

    id: str
    endpoint: str
    errors: BatchErrors | None
    input_file_id: str
    completion_window: str
    status: Status
    output_file_id: str | None
    error_file_id: str | None
    created_at: Annotated[int, Meta(description="Unix time in seconds, as all that follow; null: not yet, or never.")]
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    metadata: dict[str, str] | None
    object: Literal["batch"] = "batch"

    @classmethod
    def of(cls, batch: Batch) -> Self:
        request, times = batch.request, batch.times
        has_ended = batch.status not in ("in_progress", "cancelling")
        errors = [BatchError(code=e.code, message=e.message, param=e.param, line=e.line) for e in batch.errors]
        return cls(
            id=request.id,
            endpoint=request.endpoint,
            errors=BatchErrors(data=errors) if errors else None,
            input_file_id=request.input_file_id,
            completion_window="24h",
            status=batch.status,
            output_file_id=request.output_file_id if has_ended and batch.completed else None,
            error_file_id=request.error_file_id if has_ended and batch.failed else None,
            created_at=batch.created,
            in_progress_at=times.get("in_progress"),
            expires_at=batch.expires,
            finalizing_at=times.get("completed"),
            completed_at=times.get("completed"),
            failed_at=times.get("failed"),
            expired_at=times.get("expired"),
            cancelling_at=times.get("cancelling"),
            cancelled_at=times.get("cancelled"),
            request_counts=RequestCounts(total=batch.total, completed=batch.completed, failed=batch.failed),
            metadata=request.metadata,
        )


class BatchList(msgspec.Struct, kw_only=True):
    """A page of batches, newest first; `last_id` as `after` gives the next one."""

    data: list[BatchObject]
    has_more: bool
    first_id: str | None
    last_id: str | None
    object: Literal["list"] = "list"
