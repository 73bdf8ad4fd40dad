"""/v1/batches: files of requests that nobody waits for (docs/guides/batches.md)."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from service.batches.lines import MODELS, check_lines
from service.core.errors import FileNotFound, InsufficientScope, InvalidRequest, ModelNotFound
from service.http.access.authentication import require_model
from service.http.bodies import read_json
from service.http.dependencies import caller_of, state_of, tenant_of
from service.http.openai.ignored_parameters import tell_ignored
from service.http.openapi import documented
from service.http.routes.responses import answered
from service.http.schemas.bodies import BATCH_BODY
from service.http.schemas.openai.batches import BatchCreateRequest, BatchList, BatchObject
from service.http.schemas.requests import MAX_ID_CHARS

router = APIRouter(prefix="/v1/batches", tags=["batches"])

BatchId = Annotated[str, Path(max_length=MAX_ID_CHARS)]


@router.post(
    "",
    summary="Begin a batch",
    **documented(BatchObject, body=BATCH_BODY, statuses=(404, 408, 413, 415, 503), access="any"),
)
async def create_batch(request: Request) -> Response:
    """The file is checked at once: a batch of a wrong one has `failed`, and its `errors` name the lines."""
    state, caller = state_of(request), caller_of(request)
    state.refuse_while_draining()
    asked = await read_json(request, BatchCreateRequest, state.settings)
    kind = MODELS[asked.endpoint]
    if kind not in state.settings.models:
        raise ModelNotFound(
            f"endpoint: no {kind} model is served here, so there is no {asked.endpoint}", param="endpoint"
        )
    if caller.key is not None and not caller.key.may(kind):
        raise InsufficientScope(f"{asked.endpoint} needs a key with the scope {kind}")
    require_model(request, state, kind)
    try:
        found = await state.files.get(caller.tenant, asked.input_file_id)
    except FileNotFound as error:
        error.param = "input_file_id"
        raise
    if found.purpose != "batch":
        raise InvalidRequest(
            f"input_file_id: its purpose must be batch, got {found.purpose}: that is what a batch wrote",
            param="input_file_id",
        )
    lines = await state.files.content(caller.tenant, found.id)
    checked = await asyncio.to_thread(check_lines, lines, asked.endpoint, state.settings.batch_max_lines)
    key_id = "" if caller.key is None else caller.key.id
    batch = await state.batches.create(
        caller.tenant, key_id, asked.endpoint, found.id, checked.num_requests, checked.errors, asked.metadata
    )
    return tell_ignored(answered(BatchObject.of(batch)), asked.ignored(), state.metrics)


@router.get("", summary="Batches", **documented(BatchList, statuses=(404, 503), access="any"))
async def list_batches(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str, Query(max_length=MAX_ID_CHARS, description="`last_id` of the page before.")] = "",
) -> Response:
    """Those of one's own tenant, newest first. A page may be shorter than `limit` and not the last."""
    page = await state_of(request).batches.page(tenant_of(request), limit, after)
    listed = [BatchObject.of(one) for one in page.items]
    first_id = listed[0].id if listed else None
    return answered(BatchList(data=listed, has_more=page.has_more, first_id=first_id, last_id=page.last_id))


@router.get("/{batch_id}", summary="A batch", **documented(BatchObject, statuses=(404, 503), access="any"))
async def get_batch(request: Request, batch_id: BatchId) -> Response:
    """Where it is: `request_counts` move as its lines are done."""
    return answered(BatchObject.of(await state_of(request).batches.get(tenant_of(request), batch_id)))


@router.post(
    "/{batch_id}/cancel", summary="Cancel a batch", **documented(BatchObject, statuses=(404, 503), access="any")
)
async def cancel_batch(request: Request, batch_id: BatchId) -> Response:
    """Nothing more of it is begun, and what waits in the queue is taken out; what runs comes to its end."""
    return answered(BatchObject.of(await state_of(request).batches.cancel(tenant_of(request), batch_id)))
