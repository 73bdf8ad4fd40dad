"""POST /v1/images/generations: pictures in OpenAI's shape, and the addresses at which they can be fetched."""

import re
import time
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from service.core.errors import ImageNotFound, InvalidRequest, NotFound
from service.core.settings import Settings
from service.http.access.idempotency import claim_key
from service.http.addresses import absolute_base
from service.http.admission import admitted, wants_async
from service.http.bodies import read_json
from service.http.dependencies import ApiState, job_of, state_of, tenant_of
from service.http.middleware import release_body
from service.http.openai.ignored_parameters import tell_ignored
from service.http.openai.images import image_events, images_response
from service.http.openapi import documented
from service.http.routes.painting import find_painter, nearest_size, painted, painted_earlier, planned, submitted
from service.http.routes.responses import accepted, answered, origin_of
from service.http.schemas.bodies import IMAGES_BODY
from service.http.schemas.openai.images import ImageGenerationRequest, ImagesResponse
from service.http.schemas.requests import MAX_SEED
from service.http.sse import EventStream
from service.image_output.picture_links import PictureLink
from service.jobs.answers import PaintResponse

router = APIRouter(prefix="/v1/images", tags=["openai"])

_OPEN: dict[str, Any] = {"security": []}  # who has no key is told the same
_NAME = re.compile(r"img-[A-Za-z0-9_-]{24}\.(png|jpeg|webp)")


@router.post(
    "/generations",
    summary="Paint a prompt, in OpenAI's shape",
    **documented(
        ImagesResponse,
        body=IMAGES_BODY,
        stream=True,
        may_wait=True,
        statuses=(404,),
        headers=("x-job-id",),
        access="paint",
    ),
)
async def image_generations(request: Request) -> Response:
    """Pictures as base64 or at addresses that expire; with `stream`, previews and pictures as named events."""
    state, tenant = state_of(request), tenant_of(request)
    state.refuse_while_draining()
    asked = await read_json(request, ImageGenerationRequest, state.settings)
    release_body(request.scope)
    if asked.model is not None:
        state.aliases.require(asked.model, "paint")
    base_url = _base_url(request, asked, state.settings)
    model = await find_painter(state)
    asked.size = nearest_size(asked, model)
    painting = planned(asked, model, state.settings.max_pixel_steps)
    claim = await claim_key(request, state, "paint", tenant, asked, is_awaited=not wants_async(request))
    if claim is not None and claim.is_earlier:
        earlier = await _of_earlier(request, state, claim.job_id, asked, base_url)
        return tell_ignored(earlier, asked.ignored(), state.metrics)
    async with admitted(request, state, "paint", tenant, claim, asked.priority) as slot:
        intent, stream = await submitted(request, slot, painting, asked.output_format)
        if not asked.stream and not wants_async(request):
            answer = await painted(stream, slot.job_id, asked.include)
            urls = await _urls(state, answer, base_url) if base_url is not None else []
            return tell_ignored(answered(images_response(answer, urls)), asked.ignored(), state.metrics)
    if wants_async(request):
        state.finish_in_background(stream, slot.job_id)
        queued = accepted(slot.job_id, "paint", intent.created, request.scope["root_path"])
        return tell_ignored(queued, asked.ignored(), state.metrics)
    events = image_events(stream, intent.origin(slot.job_id), state.labels, asked.include)
    return tell_ignored(EventStream(events, slot.cancel, slot.job_id), asked.ignored(), state.metrics)


async def _of_earlier(
    request: Request, state: ApiState, job_id: str, asked: ImageGenerationRequest, base_url: str | None
) -> Response:
    """What the earlier request with the same Idempotency-Key was answered, or is."""
    record = await job_of(request, job_id)
    if wants_async(request):
        return accepted(job_id, "paint", record.created_ms // 1000, request.scope["root_path"])
    if asked.stream:
        stream = state.queue.follow("paint", job_id)
        return EventStream(image_events(stream, origin_of(job_id, record), state.labels, asked.include), job_id=job_id)
    answer = painted_earlier(record, job_id, asked.include)
    urls = await _urls(state, answer, base_url) if base_url is not None else []
    return answered(images_response(answer, urls))


@router.get(
    "/pictures/{name}",
    summary="A picture that an answer gave the address of",
    **documented(
        None, pictures=True, headers=("cache-control", "x-content-type-options"), statuses=(404, 503), access="open"
    ),
)
async def get_picture(
    request: Request,
    name: Annotated[str, Path(max_length=40)],
    expires: Annotated[int, Query(ge=0, le=MAX_SEED, description="Unix time in seconds.")],
    signature: Annotated[str, Query(max_length=64)],
) -> Response:
    """The picture, from any API process and without a key: its address is one."""
    named = _NAME.fullmatch(name)
    if named is None:
        raise ImageNotFound("this service gave no such address: pictures are called img-….png, .jpeg or .webp")
    data = await state_of(request).picture_links.picture(PictureLink(name, expires, signature))
    headers = {
        "cache-control": f"private, immutable, max-age={max(0, int(expires - time.time()))}",
        "x-content-type-options": "nosniff",
    }
    return Response(data, headers=headers, media_type=f"image/{named[1]}")


@router.post("/edits", include_in_schema=False, openapi_extra=_OPEN)
@router.post("/variations", include_in_schema=False, openapi_extra=_OPEN)
async def no_pictures_of_pictures() -> Response:
    raise NotFound(
        "pictures are painted of a prompt alone here, not of other pictures: there are no edits and no variations; "
        "ask POST /v1/images/generations"
    )


def _base_url(request: Request, asked: ImageGenerationRequest, settings: Settings) -> str | None:
    """What the pictures' addresses begin with; None: they come as base64. Raises InvalidRequest."""
    if asked.response_format != "url" and not asked.may_have_url:
        return None
    base_url, why = absolute_base(request.scope, settings.public_url), ""
    if asked.stream or wants_async(request):
        why = "what does not come as one answer holds its pictures itself"
    elif not settings.image_url_bytes:
        why = "no pictures are kept for it here (VISCPM_IMAGE_URL_BYTES=0)"
    elif base_url is None:
        why = "the service does not know the address under which this client sees it (VISCPM_PUBLIC_URL is empty)"
    if why and asked.response_format == "url":
        raise InvalidRequest(f"response_format: 'url' cannot be had, {why}; 'b64_json' can", param="response_format")
    return None if why else base_url


async def _urls(state: ApiState, answer: PaintResponse, base_url: str) -> list[str]:
    links = await state.picture_links.keep([one.b64_json for one in answer.data], answer.output_format)
    return [
        f"{base_url}{router.prefix}/pictures/{one.name}?expires={one.expires}&signature={one.signature}"
        for one in links
    ]
