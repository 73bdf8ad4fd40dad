"""What an error is answered with."""

from typing import Any

import msgspec


class ErrorDetail(msgspec.Struct, kw_only=True):
    message: str
    type: str
    param: str | None
    code: str | None
    job_id: str | msgspec.UnsetType = msgspec.UNSET
    moderation: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class ErrorResponse(msgspec.Struct, kw_only=True):
    error: ErrorDetail
