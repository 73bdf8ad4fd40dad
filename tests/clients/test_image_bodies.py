"""Pictures as applications ask for them by default, and the parts of the answers that each of them reads.

The bodies are written after what the applications' sources send when nothing but the prompt was entered.
"""

import base64
import io
import json
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.clients.asking import answered, refused

PATH = "/v1/images/generations"
TXT2IMG = "/sdapi/v1/txt2img"

Case = tuple[dict[str, Any], str, str]


def _case(body: dict[str, Any], ignored: str = "", kind: str = "b64_json") -> Case:
    """A body, what it is told to have sent in vain, and the member in which the application looks for the picture."""
    return body, ignored, kind


_B64 = {"response_format": "b64_json"}
_CAT = {"prompt": "a cat", "n": 1}
OPENAI: dict[str, Case] = {
    "Open WebUI": _case({"model": "dall-e-2", "prompt": "一只猫", "n": 1, "size": "512x512", **_B64}),
    "Open WebUI, gpt-image": _case({"model": "gpt-image-1", **_CAT, "size": "auto"}),
    "LobeHub": _case({"model": "gpt-image-1", **_CAT, "size": "1024x1536", "seed": None}),
    "LobeHub, dall-e": _case({"model": "dall-e-3", **_B64, **_CAT, "quality": "standard"}, "quality"),
    "NextChat": _case(
        {"model": "dall-e-3", **_B64, **_CAT, "size": "1792x1024", "quality": "standard", "style": "vivid"},
        "quality, style",
    ),
    "n8n": _case({"prompt": "a cat", "model": "dall-e-3", **_B64}),
    "n8n, addresses": _case({"prompt": "a cat", "model": "dall-e-2", "response_format": "url"}, kind="url"),
    "n8n, gpt-image": _case({"prompt": "a cat", "model": "gpt-image-1", "quality": "medium"}, "quality"),
    "new-api": _case({"model": "gpt-image-1", "prompt": "a cute cat", "n": 1, "size": "1024x1024"}),
    "LibreChat": _case(
        {"model": "dall-e-3", "quality": "standard", "style": "vivid", "size": "1024x1024", **_CAT},
        "quality, style",
        "url",
    ),
    "SillyTavern": _case({**_CAT, "model": "dall-e-2", "size": "512x512", **_B64}),
    "Dify": _case({"model": "gpt-image-1", **_CAT}),
    "Dify, its other choices": _case(
        {"model": "gpt-image-1", **_CAT, "size": "1536x1024", "quality": "low", "background": "opaque"},
        "quality, background",
    ),
    "Cherry Studio": _case({"model": "viscpm-paint", **_CAT, "size": "1024x1024", **_B64}),
    "Vercel AI SDK": _case({"model": "viscpm-paint", **_CAT, **_B64}),
}


@pytest.mark.parametrize("application", OPENAI)
def test_openais_shape(client: httpx.Client, application: str) -> None:
    body, ignored, kind = OPENAI[application]
    response = client.post(PATH, json=body, headers={"Authorization": "Bearer sk-any"})
    answer = answered(response)
    assert response.headers.get("x-ignored-parameters", "") == ignored
    assert isinstance(answer["created"], int) and "error" not in answer and len(answer["data"]) == 1
    told = answer["data"][0][kind]
    data = base64.b64decode(told) if kind == "b64_json" else client.get(told).content
    picture = Image.open(io.BytesIO(data))
    assert picture.format == "PNG" and answer["size"] == f"{picture.width}x{picture.height}"
    usage = answer["usage"]  # Dify's
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert set(usage["input_tokens_details"]) == {"text_tokens", "image_tokens"}


LIBRECHAT = {
    "prompt": "a cat, highly detailed",
    "negative_prompt": "blurry",
    "cfg_scale": 4.5,
    "steps": 22,
    "width": 1024,
    "height": 1024,
}
SILLYTAVERN = {
    "url": "http://127.0.0.1:8000",
    "auth": "",
    "prompt": "1girl, portrait",
    "negative_prompt": "lowres",
    "sampler_name": "DDIM",
    "scheduler": "normal",
    "steps": 20,
    "cfg_scale": 7,
    "width": 512,
    "height": 512,
    "restore_faces": False,
    "enable_hr": False,
    "hr_upscaler": "Latent",
    "hr_scale": 1.5,
    "hr_additional_modules": [],
    "denoising_strength": 0.7,
    "hr_second_pass_steps": 0,
    "override_settings": {"CLIP_stop_at_last_layers": 1, "sd_vae": "Automatic"},
    "override_settings_restore_afterwards": True,
    "clip_skip": 1,
    "save_images": True,
    "send_images": True,
    "do_not_save_grid": False,
    "do_not_save_samples": False,
}
OPEN_WEBUI = {"prompt": "a cat", "batch_size": 1, "width": 512, "height": 512}


@pytest.mark.parametrize("body", [LIBRECHAT, SILLYTAVERN, OPEN_WEBUI], ids=["LibreChat", "SillyTavern", "Open WebUI"])
def test_a1111s_shape(client: httpx.Client, body: dict[str, Any]) -> None:
    response = client.post(TXT2IMG, json=body, headers={"Authorization": "Basic dXNlcjpwYXNz"})
    answer = answered(response)
    picture = Image.open(io.BytesIO(base64.b64decode(answer["images"][0])))
    info = json.loads(answer["info"])
    assert isinstance(answer["info"], str) and (info["width"], info["height"]) == picture.size
    assert info["infotexts"][0].startswith(body["prompt"]) and f"Seed: {info['seed']}" in info["infotexts"][0]
    assert ("override_settings" in response.headers.get("x-ignored-parameters", "")) is (body is SILLYTAVERN)


def test_sillytavern_finds_its_lists_and_waits_for_nothing(client: httpx.Client) -> None:
    """It asks for these when it connects, sets the model, and waits until nothing is under way."""
    options = client.get("/sdapi/v1/options").json()
    models = client.get("/sdapi/v1/sd-models").json()
    assert options["sd_model_checkpoint"] in [one["title"] for one in models]
    for name in ("samplers", "schedulers", "upscalers"):
        assert all(isinstance(one["name"], str) for one in client.get(f"/sdapi/v1/{name}").json()), name
    assert all(client.get(f"/sdapi/v1/{name}").json() == [] for name in ("sd-vae", "latent-upscale-modes"))
    assert client.post("/sdapi/v1/options", json={"sd_model_checkpoint": models[0]["title"]}).status_code == 200
    idle = client.get("/sdapi/v1/progress").json()
    assert idle["progress"] == 0 and idle["state"]["job_count"] == 0


def test_open_webui_sends_its_options_back(client: httpx.Client) -> None:
    options = client.get("/sdapi/v1/options").json()
    assert client.post("/sdapi/v1/options", json=options).status_code == 200
    changed = client.post("/sdapi/v1/options", json={**options, "sd_model_checkpoint": "sd15"})
    assert "there is no 'sd15' here" in refused(changed, "sd_model_checkpoint", 404)
