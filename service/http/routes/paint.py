"""POST /paint: pictures of a prompt."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.core.errors import NotAcceptable
from service.http.access.idempotency import claim_key
from service.http.admission import admitted, require_callback, wants_async
from service.http.bodies import read_json
from service.http.content_negotiation import JSON, negotiate
from service.http.dependencies import ApiState, job_of, state_of, tenant_of
from service.http.middleware import release_body
from service.http.openapi import documented
from service.http.routes.painting import find_painter, painted, painted_earlier, planned, submitted
from service.http.routes.responses import accepted, answered, origin_of, paint_events, picture
from service.http.schemas.bodies import PAINT_BODY
from service.http.schemas.paint import PaintRequest
from service.http.sse import EventStream
from service.jobs.answers import PaintResponse, PictureFormat

router = APIRouter(tags=["paint"])


@router.post(
    "/paint",
    summary="Paint a prompt",
    **documented(
        PaintResponse, body=PAINT_BODY, stream=True, may_wait=True, pictures=True, statuses=(406,), access="paint"
    ),
)
async def paint(request: Request) -> Response:
    """Paint `n` pictures. JSON with base64; for `Accept: image/*` and `n` 1 the picture itself.

    With `stream` the steps, the previews asked for and the finished pictures come as server-sent events.
    """
    state, tenant = state_of(request), tenant_of(request)
    state.refuse_while_draining()
    asked = await read_json(request, PaintRequest, state.settings)
    release_body(request.scope)  # texts are left of it, whose length is limited
    media = negotiate(",".join(request.headers.getlist("accept")))
    output_format = _output_format(asked, media)
    painting = planned(asked, await find_painter(state), state.settings.max_pixel_steps)
    require_callback(request, state, asked.callback_url)
    claim = await claim_key(request, state, "paint", tenant, asked, is_awaited=not wants_async(request))
    if claim is not None and claim.is_earlier:
        return await _of_earlier(request, state, claim.job_id, asked, media)
    async with admitted(request, state, "paint", tenant, claim, asked.priority, asked.callback_url) as slot:
        intent, stream = await submitted(request, slot, painting, output_format)
        if not asked.stream and not wants_async(request):
            answer = await painted(stream, slot.job_id, asked.include)
            return answered(answer) if media == JSON else picture(answer)
    if wants_async(request):
        state.finish_in_background(stream, slot.job_id)
        return accepted(slot.job_id, "paint", intent.created, request.scope["root_path"])
    events = paint_events(stream, intent.origin(slot.job_id), state.labels, asked.include)
    return EventStream(events, slot.cancel, slot.job_id)


async def _of_earlier(request: Request, state: ApiState, job_id: str, asked: PaintRequest, media: str) -> Response:
    """What the earlier request with the same Idempotency-Key was answered, or is."""
    record = await job_of(request, job_id)
    if wants_async(request):
        return accepted(job_id, "paint", record.created_ms // 1000, request.scope["root_path"])
    if asked.stream:
        stream = state.queue.follow("paint", job_id)
        return EventStream(paint_events(stream, origin_of(job_id, record), state.labels, asked.include), job_id=job_id)
    answer = painted_earlier(record, job_id, asked.include)
    return answered(answer) if media == JSON else picture(answer)


def _output_format(asked: PaintRequest, media: str) -> PictureFormat:
    """The pictures' format; for a picture as the answer also what the Accept header says."""
    if media == JSON:
        return asked.output_format
    if asked.stream or asked.n != 1:
        got = "stream" if asked.stream else f"n {asked.n}"
        raise NotAcceptable(f"a picture itself can be the answer for n 1 without stream, got {got}", param="n")
    if media == "image/*":
        return asked.output_format
    wanted: dict[str, PictureFormat] = {"image/png": "png", "image/jpeg": "jpeg", "image/webp": "webp"}
    if "output_format" in asked.model_fields_set and asked.output_format != wanted[media]:
        raise NotAcceptable(f"Accept asks for {media}, output_format for {asked.output_format}", param="output_format")
    return wanted[media]
