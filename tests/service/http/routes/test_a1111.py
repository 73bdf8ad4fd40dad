"""/sdapi/v1 over HTTP, with a real worker behind it: pictures, how far the latest is, and its interruption."""

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from PIL import Image

from tests.service.http.test_app_gate import WordScreens
from tests.service.painter import colour_of
from tests.service.tree import eventually
from tests.service.web import Service, assert_error, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")
TXT2IMG = "/sdapi/v1/txt2img"
IDLE = {"skipped": False, "interrupted": False, "job": "", "job_count": 0, "job_no": 0}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def on(module_service: Service) -> AsyncIterator[Service]:
    async with serving(module_service.state.settings.model_copy(update={"a1111": "on"})) as served:
        await served.ready()
        yield served


@pytest_asyncio.fixture(loop_scope="module")
async def service(on: Service) -> Service:
    await on.redis.delete("{viscpm}:accounting")
    return on


@pytest.mark.slow
async def test_pictures_come_with_what_is_told_of_them(service: Service) -> None:
    body = {
        "prompt": "a cat",
        "negative_prompt": "fog",
        "seed": 40,
        "steps": 12,
        "cfg_scale": 6,
        "width": 1024,
        "height": 1024,
        "sampler_name": "DPM++ 2M Karras",
        "batch_size": 2,
        "scheduler": "Karras",
        "enable_hr": False,
    }
    response = await service.client.post(TXT2IMG, json=body)
    assert response.status_code == 200, response.text
    assert response.headers["x-ignored-parameters"] == "scheduler, enable_hr"
    answer = response.json()
    assert set(answer) == {"images", "parameters", "info"}
    pictures = [Image.open(io.BytesIO(base64.b64decode(one))) for one in answer["images"]]
    assert [(one.format, one.size, one.getpixel((0, 0))) for one in pictures] == [
        ("PNG", (64, 64), colour_of(seed)) for seed in (40, 41)
    ]
    assert answer["parameters"]["steps"] == 12 and "scheduler" not in answer["parameters"]
    info = json.loads(answer["info"])
    assert (info["seed"], info["all_seeds"], info["sampler_name"], info["steps"]) == (40, [40, 41], "DPM++ 2M", 12)
    assert (info["width"], info["height"], info["all_prompts"]) == (64, 64, ["a cat"] * 2)
    assert info["infotexts"] == [
        f"a cat\nNegative prompt: fog\nSteps: 12, Sampler: DPM++ 2M, CFG scale: 6, Seed: {seed}, Size: 64x64, "
        "Model: painter"
        for seed in (40, 41)
    ]
    assert await service.accounting() == {"done": 1}


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"prompt": ""}, "prompt", "at least 1 character"),
        ({"prompt": "nul \0"}, "prompt", "NUL"),
        ({"sampler_name": "UniPC"}, "sampler_name", "begin as one of DDPM, DPM++ 2M, DDIM, Euler, got 'UniPC'"),
        ({"batch_size": 5}, "batch_size", "less than or equal to 4, got 5"),
        ({"batch_size": 3, "n_iter": 2}, "n_iter", "batch_size 3 x n_iter 2 is more than 4 pictures"),
        ({"width": 8}, "width", "greater than or equal to 16, got 8"),
        ({"steps": 1001}, "steps", "less than or equal to 1000, got 1001"),
        ({"steps": 401}, None, "VISCPM_MAX_PIXEL_STEPS"),
    ],
)
async def test_what_cannot_be_had_is_refused_by_their_names(
    service: Service, fields: dict[str, Any], param: str | None, message: str
) -> None:
    error = assert_error(
        await service.client.post(TXT2IMG, json={"prompt": "x", **fields}), 400, "invalid_request", param
    )
    assert message in error["message"]


async def test_lists_have_what_clients_read(service: Service) -> None:
    async def listed(name: str) -> Any:
        response = await service.client.get(f"/sdapi/v1/{name}")
        assert response.status_code == 200, response.text
        return response.json()

    options = await listed("options")
    [model] = await listed("sd-models")
    assert options["sd_model_checkpoint"] == model["title"] == model["model_name"] == "painter"
    names = [one["name"] for one in await listed("samplers")]
    assert names == ["DDPM", "DPM++ 2M", "DDIM", "Euler"]
    for name in names:
        body = {"prompt": "x", "sampler_name": name}
        info = json.loads((await service.client.post(TXT2IMG, json=body)).json()["info"])
        assert (info["sampler_name"], info["steps"]) == (name, 50 if name == "DDPM" else 25)
    assert [one["name"] for one in await listed("schedulers")] == ["automatic"]
    assert [one["name"] for one in await listed("upscalers")] == ["None"]
    assert await listed("sd-vae") == await listed("latent-upscale-modes") == []


async def test_the_model_that_there_is_may_be_chosen(service: Service) -> None:
    for chosen in ("painter", "viscpm-paint", None):
        body = {"sd_model_checkpoint": chosen, "sd_vae": "Automatic"}
        response = await service.client.post("/sdapi/v1/options", json=body)
        assert (response.status_code, response.text) == (200, "null")
        assert response.headers["x-ignored-parameters"] == "sd_vae"
    other = await service.client.post("/sdapi/v1/options", json={"sd_model_checkpoint": "sdxl"})
    assert "no 'sdxl' here" in assert_error(other, 404, "model_not_found", "sd_model_checkpoint")["message"]


@pytest.mark.slow
async def test_the_latest_painting_is_told_and_interrupted_from_any_process(service: Service) -> None:
    async def told(of: Service) -> dict[str, Any]:
        response = await of.client.get("/sdapi/v1/progress")
        assert response.status_code == 200, response.text
        return response.json()  # type: ignore[no-any-return]

    await service.redis.delete("{viscpm}:latest-painting:default")
    idle = {"progress": 0.0, "eta_relative": 0.0, "current_image": None, "textinfo": None}
    assert await told(service) == {**idle, "state": {**IDLE, "sampling_step": 0, "sampling_steps": 0}}
    assert (await service.client.post("/sdapi/v1/interrupt")).json() == {}
    async with serving(service.state.settings) as other:
        await other.ready()
        painting = asyncio.create_task(service.client.post(TXT2IMG, json={"prompt": "paint 4000"}))

        async def has_begun() -> bool:
            return bool((await told(other))["progress"])

        await eventually(has_begun)
        for process in (other, service):
            now = await told(process)
            state = now["state"]
            assert 0 < state["sampling_step"] < state["sampling_steps"] == 4000 and state["job_count"] == 1
            assert now["progress"] == state["sampling_step"] / 4000 and now["eta_relative"] > 0
            assert state["job"].startswith("paint-")
        assert (await other.client.post("/sdapi/v1/interrupt")).json() == {}
        assert_error(await painting, 499, "cancelled")
        assert (await told(other))["state"]["job_count"] == 0
        assert (await service.client.post("/sdapi/v1/interrupt")).json() == {}  # again: nothing to stop
    assert await service.accounting() == {"cancelled": 1}


async def test_the_gate_stands_before_these_routes_too(service: Service) -> None:
    async with serving(service.state.settings, WordScreens()) as guarded:
        await guarded.ready()
        refused = await guarded.client.post(TXT2IMG, json={"prompt": "x", "negative_prompt": "bad"})
        assert_error(refused, 400, "content_policy_violation", "negative_prompt")
        painted = await guarded.client.post(TXT2IMG, json={"prompt": "x", "seed": 10})
        assert_error(painted, 400, "content_policy_violation")


async def test_they_are_off_unless_they_are_turned_on(module_service: Service) -> None:
    for method, path in (("GET", "options"), ("GET", "progress"), ("POST", "txt2img"), ("POST", "interrupt")):
        refused = await module_service.client.request(method, f"/sdapi/v1/{path}", json={"prompt": "x"})
        assert "VISCPM_A1111=on" in assert_error(refused, 404, "not_found")["message"]
