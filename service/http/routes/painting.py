"""From a checked request to its job on the queue, the same for every route that paints."""

import math
import secrets
from collections.abc import Collection
from typing import NamedTuple

import msgspec
from starlette.requests import Request

from models.jobs import ModelDescription, PaintJob
from safety.text.language import language_of
from service.core.errors import InvalidRequest, InvalidSize, RerankerNotConfigured
from service.http.admission import Slot
from service.http.dependencies import ApiState, request_id_of, tenant_of
from service.http.schemas.paint import PaintingRequest
from service.http.schemas.requests import MAX_SEED
from service.jobs.answers import Include, PaintResponse, PictureFormat, answer_of, outcome_of
from service.jobs.conversations import unix_time_s
from service.jobs.intents import PaintIntent
from service.jobs.screened_stream import JobStream
from service.queue.record import JobRecord

_MAX_SIDE_PX = 1024
_MIN_SIDE_PX = 16
_RERANKED_CANDIDATES = 4  # where the request does not say how many
_DEFAULT_REQUESTS = 8  # whose work one request may ask for, where no limit is set
_REFERENCE_STEPS, _FEWER_STEPS = 50, 25  # of ddpm, and of the samplers that need fewer


class Painting(NamedTuple):
    """What will be painted, by which model. The job has no id yet: it has no slot."""

    asked: PaintingRequest
    model: ModelDescription
    job: PaintJob


async def find_painter(state: ApiState) -> ModelDescription:
    """The model, where what it paints can be judged too. Raises Unavailable."""
    model = await state.registry.find("paint")
    state.registry.require_screens()  # before a minute of painting, not after it
    return model


def planned(asked: PaintingRequest, model: ModelDescription, max_pixel_steps: int) -> Painting:
    """Raises InvalidRequest for what the model cannot do, or what would take too long (VISCPM_MAX_PIXEL_STEPS)."""
    job = _job(asked, model)
    _check_pixel_steps(job, model, max_pixel_steps)
    return Painting(asked, model, job)


async def submitted(
    request: Request, slot: Slot, painting: Painting, output_format: PictureFormat
) -> tuple[PaintIntent, JobStream]:
    """Queue the job in its slot. Raises as Slot.submit."""
    asked, model = painting.asked, painting.model
    job = msgspec.structs.replace(painting.job, job_id=slot.job_id, request_id=request_id_of(request))
    intent = PaintIntent(
        tenant=tenant_of(request),
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
    return intent, await slot.submit(job, intent)


async def painted(stream: JobStream, job_id: str, include: Collection[Include] = ()) -> PaintResponse:
    """Wait for the answer. Raises ServiceError: what the job ended with instead of one."""
    async with stream:
        answer = answer_of(await stream.outcome(), job_id, include)
    assert isinstance(answer, PaintResponse)
    return answer


def painted_earlier(record: JobRecord, job_id: str, include: Collection[Include] = ()) -> PaintResponse:
    """The answer of a job that has ended. Raises ServiceError: what it ended with instead of one."""
    assert record.ending is not None, "a key whose job runs is no answer's"
    answer = answer_of(outcome_of(record.ending, "paint"), job_id, include)
    assert isinstance(answer, PaintResponse)
    return answer


def nearest_size(asked: PaintingRequest, model: ModelDescription) -> str:
    """The nearest to the size asked for that the model was made to paint, as `size` says it.

    In the same proportions, but no larger than its own picture: twice the side it was trained on gives everything
    twice. Each side is a multiple of what it needs.
    """
    sides = asked.side_px()
    if sides is None or not model.picture_size_px:
        return asked.size
    multiple = model.picture_multiple_px or 1
    limit_px = max(_MAX_SIDE_PX, model.picture_size_px)
    scale = min(1.0, model.picture_size_px / math.sqrt(sides[0] * sides[1]))
    lowest_px = math.ceil(_MIN_SIDE_PX / multiple) * multiple
    highest_px = min(limit_px, model.picture_size_px**2 // lowest_px) // multiple * multiple
    width_px, height_px = (
        min(max(round(side_px * scale / multiple) * multiple, lowest_px), highest_px) for side_px in sides
    )
    return f"{width_px}x{height_px}"


def _shape(asked: PaintingRequest, model: ModelDescription) -> tuple[int, int]:
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


def _job(asked: PaintingRequest, model: ModelDescription) -> PaintJob:
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
