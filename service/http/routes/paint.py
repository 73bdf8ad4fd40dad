"""POST /paint: pictures of a prompt."""

import secrets

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from models.jobs import ModelDescription, PaintJob
from safety.text.language import language_of
from service.core.errors import InvalidRequest, InvalidSize, NotAcceptable, RerankerNotConfigured
from service.http.admission import admitted, wants_async
from service.http.bodies import read_json
from service.http.content_negotiation import JSON, negotiate
from service.http.dependencies import ApiState, job_of, request_id_of, state_of, tenant_of
from service.http.idempotency import claim_key
from service.http.middleware import release_body
from service.http.openapi import PAINT_BODY, documented
from service.http.routes.responses import accepted, answered, origin_of, paint_events, picture
from service.http.schemas.paint import PaintRequest
from service.http.schemas.requests import MAX_SEED
from service.http.sse import EventStream
from service.jobs.answers import PaintResponse, PictureFormat, answer_of, outcome_of
from service.jobs.conversations import unix_time_s
from service.jobs.intents import PaintIntent

router = APIRouter(tags=["paint"])

_MAX_SIDE_PX = 1024
_RERANKED_CANDIDATES = 4  # where the request does not say how many
_DEFAULT_REQUESTS = 8  # whose work one request may ask for, where no limit is set
_REFERENCE_STEPS, _FEWER_STEPS = 50, 25  # of ddpm, and of the samplers that need fewer


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
    model = await state.registry.find("paint")
    state.registry.require_screens()  # before a minute of painting, not after it
    described = _job(asked, model)
    _check_pixel_steps(described, model, state.settings.max_pixel_steps)
    claim = await claim_key(request, state, "paint", tenant, asked, is_awaited=not wants_async(request))
    if claim is not None and claim.is_earlier:
        return await _of_earlier(request, state, claim.job_id, asked, media)
    async with admitted(request, state, "paint", tenant, claim, asked.priority) as slot:
        job = msgspec.structs.replace(described, job_id=slot.job_id, request_id=request_id_of(request))
        intent = PaintIntent(
            tenant=tenant,
            created=unix_time_s(),
            model=model.name,
            n=asked.n,
            output_format=output_format,
            quality=asked.output_compression,
            seed=job.seed,
            untrained=model.untrained,
            fingerprint=model.fingerprint,
            request_id=request_id_of(request),
            language=language_of(asked.prompt),
        )
        stream = await slot.submit(job, intent)
        if not asked.stream and not wants_async(request):
            async with stream:
                answer = answer_of(await stream.outcome(), slot.job_id, asked.include)
            assert isinstance(answer, PaintResponse)
            return answered(answer) if media == JSON else picture(answer)
    if wants_async(request):
        state.finish_in_background(stream, slot.job_id)
        return accepted(slot.job_id, "paint", intent.created, request.scope["root_path"])
    return EventStream(paint_events(stream, intent.origin(slot.job_id), state.labels, asked.include), slot.cancel)


async def _of_earlier(request: Request, state: ApiState, job_id: str, asked: PaintRequest, media: str) -> Response:
    """What the earlier request with the same Idempotency-Key was answered, or is."""
    record = await job_of(request, job_id)
    if wants_async(request):
        return accepted(job_id, "paint", record.created_ms // 1000, request.scope["root_path"])
    if asked.stream:
        stream = state.queue.follow("paint", job_id)
        return EventStream(paint_events(stream, origin_of(job_id, record), state.labels, asked.include))
    assert record.ending is not None, "a key whose job runs is no answer's"
    answer = answer_of(outcome_of(record.ending, "paint"), job_id, asked.include)
    assert isinstance(answer, PaintResponse)
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


def _shape(asked: PaintRequest, model: ModelDescription) -> tuple[int, int]:
    """(width, height) that the model can paint."""
    sides = asked.side_px()
    if sides is None:
        return model.picture_size_px, model.picture_size_px
    multiple = model.picture_multiple_px or 1
    limit_px = max(_MAX_SIDE_PX, model.picture_size_px)
    for side_px in sides:
        if side_px % multiple or side_px > limit_px:
            raise InvalidSize(
                f"size: sides must be multiples of {multiple} up to {limit_px}, got {asked.size}", param="size"
            )
    return sides


def _job(asked: PaintRequest, model: ModelDescription) -> PaintJob:
    """The job, still without its id. Raises InvalidRequest, where the model cannot do it the subclass of it."""
    language = language_of(asked.prompt)
    if asked.rerank is True and language not in model.rerankers:
        raise RerankerNotConfigured(
            f"rerank: this service has no reranker for prompts in {language!r}; it has some for "
            f"{', '.join(model.rerankers) or 'none'} (VISCPM_PAINT_RERANKER, VISCPM_PAINT_RERANKER_ENGLISH)",
            param="rerank",
        )
    reranks = language in model.rerankers and asked.rerank is not False
    candidates = asked.candidates or (_RERANKED_CANDIDATES if reranks else asked.n)
    if asked.seed is not None and asked.seed + candidates - 1 > MAX_SEED:  # the answer would tell seeds that are none
        raise InvalidRequest(
            f"seed: must be at most {MAX_SEED - candidates + 1} for {candidates} candidates, got {asked.seed}",
            param="seed",
        )
    width_px, height_px = _shape(asked, model)
    return PaintJob(
        job_id="",
        prompt=asked.prompt,
        negative_prompt=asked.negative_prompt,
        candidates=candidates,
        rerank="on" if reranks else "off",
        sampler=asked.sampler,
        num_inference_steps=asked.num_inference_steps
        or (_REFERENCE_STEPS if asked.sampler == "ddpm" else _FEWER_STEPS),
        guidance_scale=asked.guidance_scale,
        height_px=height_px,
        width_px=width_px,
        seed=secrets.randbits(31) if asked.seed is None else asked.seed,
        previews=asked.partial_images,
        raw_text=asked.raw,
        language=language,
    )


def _check_pixel_steps(job: PaintJob, model: ModelDescription, configured: int) -> None:
    """Raises InvalidRequest for a job that would hold a worker far longer than a default one of this model.

    Args:
        configured: VISCPM_MAX_PIXEL_STEPS.
    """
    candidates = _RERANKED_CANDIDATES if model.rerankers else 1
    default = candidates * model.picture_size_px**2 * PaintJob(job_id="", prompt="").num_inference_steps
    limit = configured or _DEFAULT_REQUESTS * default
    pixel_steps = job.candidates * job.height_px * job.width_px * job.num_inference_steps
    if 0 < limit < pixel_steps:  # 0: of a model whose size nobody tells
        raise InvalidRequest(
            f"candidates, size and num_inference_steps: {job.candidates} candidates x {job.height_px * job.width_px} "
            f"pixels ({job.width_px}x{job.height_px}) x {job.num_inference_steps} steps are {pixel_steps} pixel steps, "
            f"at most {limit} are allowed (VISCPM_MAX_PIXEL_STEPS)"
        )
