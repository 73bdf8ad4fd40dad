"""/sdapi/v1: what clients of AUTOMATIC1111's API need, on the same jobs and the same gate (VISCPM_A1111=on).

Its `progress` and `interrupt` name no job: they are about the caller's own latest one of these routes.
"""

import asyncio
import time
from contextlib import suppress

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from service.core.errors import JobLost, ModelNotFound, NotFound, TooManyWatchers
from service.http.admission import admitted
from service.http.bodies import read_json
from service.http.dependencies import ApiState, state_of, tenant_of
from service.http.middleware import release_body
from service.http.openai.ignored_parameters import tell_ignored
from service.http.openapi import documented
from service.http.routes.painting import find_painter, nearest_size, painted, planned, submitted
from service.http.routes.responses import answered
from service.http.schemas.a1111 import SAMPLERS, OptionsRequest, Txt2ImgRequest, Txt2ImgResponse, txt2img_response
from service.http.schemas.bodies import OPTIONS_BODY, TXT2IMG_BODY
from service.jobs.screened_stream import DenoisingStep
from service.queue.record import JobRecord

_NAME = "viscpm-paint"  # of a model that no worker has told yet
_LOOK_S = 0.1  # that `progress` waits for steps of a job which another process follows
_ONLY_ON = (404,)  # a status of all: where VISCPM_A1111 is off


def require_on(request: Request) -> None:
    """Raises NotFound where the operator has not turned these routes on."""
    if state_of(request).settings.a1111 == "off":
        raise NotFound("AUTOMATIC1111's routes are off here; VISCPM_A1111=on turns them on")


router = APIRouter(prefix="/sdapi/v1", tags=["a1111"], dependencies=[Depends(require_on)])


@router.post(
    "/txt2img",
    summary="Paint a prompt, in A1111's shape",
    **documented(Txt2ImgResponse, body=TXT2IMG_BODY, makes_job=True, statuses=(404, 499), access="paint"),
)
async def txt2img(request: Request) -> Response:
    """Pictures as base64, and `info` as a JSON string. What has no effect is named in `x-ignored-parameters`."""
    state, tenant = state_of(request), tenant_of(request)
    state.refuse_while_draining()
    asked = await read_json(request, Txt2ImgRequest, state.settings)
    release_body(request.scope)
    model = await find_painter(state)
    wanted = asked.painting(state.settings)
    wanted.size = nearest_size(wanted, model)
    painting = planned(wanted, model, state.settings.max_pixel_steps)
    async with admitted(request, state, "paint", tenant) as slot:
        await state.latest_paintings.note(tenant, slot.job_id)
        _, stream = await submitted(request, slot, painting, "png")
        answer = await painted(stream, slot.job_id)
    return tell_ignored(answered(txt2img_response(asked, painting.job, answer)), asked.ignored(), state.metrics)


@router.get(
    "/progress",
    summary="How far the latest painting is",
    **documented(None, plain="object", statuses=(404, 503), access="paint"),
)
async def progress(request: Request) -> Response:
    """Of the caller's own latest job of these routes; all zero where none is under way."""
    state = state_of(request)
    found = await _under_way(request)
    step, total_steps, left_s = 0, 0, 0.0
    if found is not None:
        job_id, record = found
        step, total_steps = await _steps(state, job_id)
        spent_s = max(0.0, time.time() - record.started_ms / 1000) if record.started_ms else 0.0
        left_s = spent_s / step * (total_steps - step) if step else 0.0
    told = {
        "skipped": False,
        "interrupted": False,
        "job": "" if found is None else found[0],
        "job_count": int(found is not None),
        "job_no": 0,
        "sampling_step": step,
        "sampling_steps": total_steps,
    }
    done = step / total_steps if total_steps else 0.0
    body = {"progress": done, "eta_relative": round(left_s, 3), "state": told, "current_image": None, "textinfo": None}
    return answered(body)


@router.post(
    "/interrupt",
    summary="Stop the latest painting",
    **documented(None, plain="object", statuses=(404, 503), access="paint"),
)
async def interrupt(request: Request) -> Response:
    """Cancels the caller's own latest job of these routes; nothing where none is under way."""
    found = await _under_way(request)
    if found is not None:
        with suppress(JobLost):
            await state_of(request).queue.cancel(found[0], "interrupted")
    return answered({})


@router.get(
    "/options", summary="The model that paints", **documented(None, plain="object", statuses=_ONLY_ON, access="paint")
)
async def get_options(request: Request) -> Response:
    """What clients read of the options; there is one model."""
    title = _models(state_of(request))[0]["title"]
    return answered({"sd_model_checkpoint": title, "sd_vae": "Automatic", "samples_format": "png"})


@router.post(
    "/options",
    summary="Choose the model that paints",
    **documented(None, body=OPTIONS_BODY, plain="null", statuses=(404, 408, 413, 415), access="paint"),
)
async def set_options(request: Request) -> Response:
    """Taken where it names the model that there is; nothing is changed."""
    state = state_of(request)
    asked = await read_json(request, OptionsRequest, state.settings)
    names = [str(_models(state)[0]["title"]), *state.aliases.names("paint")]
    if asked.sd_model_checkpoint is not None and asked.sd_model_checkpoint not in names:
        raise ModelNotFound(
            f"sd_model_checkpoint: there is no {asked.sd_model_checkpoint[:64]!r} here; there are {', '.join(names)}",
            param="sd_model_checkpoint",
        )
    return tell_ignored(answered(None), asked.ignored(), state.metrics)


@router.get(
    "/sd-models", summary="Models that paint", **documented(None, plain="array", statuses=_ONLY_ON, access="paint")
)
async def sd_models(request: Request) -> Response:
    return answered(_models(state_of(request)))


@router.get("/samplers", summary="Samplers", **documented(None, plain="array", statuses=_ONLY_ON, access="paint"))
async def samplers() -> Response:
    return answered([{"name": shown, "aliases": [name], "options": {}} for name, shown in SAMPLERS.items()])


@router.get(
    "/schedulers", summary="Noise schedules", **documented(None, plain="array", statuses=_ONLY_ON, access="paint")
)
async def schedulers() -> Response:
    """Each sampler has its own."""
    return answered([{"name": "automatic", "label": "Automatic", "aliases": None}])


@router.get("/upscalers", summary="Upscalers", **documented(None, plain="array", statuses=_ONLY_ON, access="paint"))
async def upscalers() -> Response:
    """None, as an entry: clients preselect it."""
    return answered([{"name": "None", "model_name": None, "model_path": None, "model_url": None, "scale": 1.0}])


@router.get(
    "/latent-upscale-modes", summary="Upscaling", **documented(None, plain="array", statuses=_ONLY_ON, access="paint")
)
async def latent_upscale_modes() -> Response:
    """None."""
    return answered([])


@router.get(
    "/sd-vae", summary="Decoders to choose from", **documented(None, plain="array", statuses=_ONLY_ON, access="paint")
)
async def sd_vae() -> Response:
    """None beside the model's own."""
    return answered([])


def _models(state: ApiState) -> list[dict[str, object]]:
    model = state.registry.last_model("paint")
    name = model.name if model is not None and model.name else _NAME
    fingerprint = model.fingerprint[:10] if model is not None else ""
    return [{"title": name, "model_name": name, "hash": fingerprint, "sha256": None, "filename": name, "config": None}]


async def _under_way(request: Request) -> tuple[str, JobRecord] | None:
    """The caller's latest job, unless it has ended."""
    state, tenant = state_of(request), tenant_of(request)
    job_id = await state.latest_paintings.of(tenant)
    record = None if job_id is None else await state.queue.status(job_id)
    if job_id is None or record is None or record.tenant != tenant or record.ending is not None:
        return None
    return job_id, record


async def _steps(state: ApiState, job_id: str) -> tuple[int, int]:
    """Denoising steps done, and all; 0 of 0: it waits."""
    steps = (0, 0)
    with suppress(TimeoutError, TooManyWatchers):
        async with asyncio.timeout(_LOOK_S), state.queue.watch("paint", job_id) as stream:
            async for part in stream:
                if isinstance(part, DenoisingStep):
                    steps = (part.step, part.total_steps)
    return steps
