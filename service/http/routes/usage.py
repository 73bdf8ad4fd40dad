"""GET /usage: what API keys have used, day by day."""

import re
from datetime import UTC, date, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import WithJsonSchema
from starlette.responses import Response

from service.core.errors import InvalidRequest
from service.http.dependencies import Caller, caller_of, state_of
from service.http.openapi import documented
from service.http.routes.responses import answered
from service.http.schemas.usage import UsageDay, UsageResponse

router = APIRouter(tags=["usage"])

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MAX_READ = 10_000  # days of keys in one answer


@router.get("/usage", summary="What API keys have used", **documented(UsageResponse, statuses=(503,), access="any"))
async def get_usage(
    request: Request,
    days: Annotated[int, Query(ge=1, le=92, description="Up to `until`, this one included.")] = 30,
    until: Annotated[
        str | None,
        WithJsonSchema({"type": "string", "format": "date"}),
        Query(description="Such as `2026-11-30`; absent: today (UTC)."),
    ] = None,
) -> Response:
    """Days on which there was any, newest first: of the key that asks; with the scope `admin` of all of its tenant's.

    A service without keys counts nothing, and tells no days.
    """
    state, caller = state_of(request), caller_of(request)
    names = await _names(request, caller)
    if len(names) * days > _MAX_READ:
        raise InvalidRequest(f"days: {days} of {len(names)} keys are too many; ask for fewer days", param="days")
    last = datetime.now(UTC).date() if until is None else _date(until)
    found = await state.usage.read(list(names), last, days)
    return answered(
        UsageResponse(data=[UsageDay.of(key_id, names[key_id], day, usage) for key_id, day, usage in found])
    )


async def _names(request: Request, caller: Caller) -> dict[str, str]:
    """Of the keys that the caller may know about, by id."""
    key = caller.key
    if key is None:
        return {}
    if not key.may("admin"):
        return {key.id: key.name}
    return {one.id: one.name for one in await state_of(request).keys.all() if one.tenant == caller.tenant}


def _date(text: str) -> date:
    try:
        if not _DATE.fullmatch(text):  # of the other forms of ISO 8601 Python reads some
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(f"until: must be a date such as 2026-11-30, got {text[:40]!r}", param="until") from None
