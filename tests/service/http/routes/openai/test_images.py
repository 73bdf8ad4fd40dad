"""POST /v1/images/generations over HTTP, with a real worker behind it: OpenAI's shape, streams and addresses."""

import asyncio
import base64
import io
import time
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.service.http.test_app_gate import WordScreens
from tests.service.painter import UNKNOWN, colour_of
from tests.service.web import Service, assert_error, serving, sse_events

PATH = "/v1/images/generations"
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def service(recounted_service: Service) -> Service:
    return recounted_service


async def paint(service: Service, **fields: Any) -> dict[str, Any]:
    response = await service.client.post(PATH, json={"prompt": "a cat", **fields})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def opened(b64_json: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(b64_json)))


async def test_pictures_come_in_openais_shape(service: Service) -> None:
    answer = await paint(service, n=2, seed=40, candidates=3, negative_prompt="fog", guidance_scale=5, sampler="ddim")
    assert set(answer) == {"created", "data", "size", "output_format", "background", "usage", "viscpm"}
    assert [list(one) for one in answer["data"]] == [["b64_json"]] * 2
    assert [opened(one["b64_json"]).getpixel((0, 0)) for one in answer["data"]] == [colour_of(40), colour_of(41)]
    assert answer["usage"] == {
        "input_tokens": 5,
        "output_tokens": 0,
        "total_tokens": 5,
        "input_tokens_details": {"text_tokens": 5, "image_tokens": 0},
    }
    assert (answer["size"], answer["output_format"], answer["background"]) == ("64x64", "png", "opaque")
    ours = answer["viscpm"]
    assert (ours["seeds"], ours["candidates"], ours["model"], ours["untrained"]) == ([40, 41], 3, "painter", True)
    job = (await service.client.get(f"/jobs/{ours['id']}")).json()
    assert (job["kind"], job["state"]) == ("paint", "done")
    assert await service.accounting() == {"done": 1}


@pytest.mark.parametrize(
    ("size", "painted"), [("auto", "64x64"), ("1024x1024", "64x64"), ("1792x1024", "88x48"), ("32x32", "32x32")]
)
async def test_the_nearest_size_is_painted_and_told(service: Service, size: str, painted: str) -> None:
    answer = await paint(service, size=size, output_format="webp", output_compression=50)
    picture = opened(answer["data"][0]["b64_json"])
    assert answer["size"] == painted == f"{picture.width}x{picture.height}" and picture.format == "WEBP"


async def test_what_has_no_effect_is_named_and_counted(service: Service) -> None:
    metric = 'viscpm_ignored_parameters_total{parameter="%s"}'
    before = [await service.metric(metric % name) for name in ("quality", "other")]
    body = {
        "prompt": "x",
        "quality": "hd",
        "style": None,
        "user": "u",
        "colour": [1],
        "ümlaut": 1,
        "n": 1.0,
        "seed": None,
    }
    response = await service.client.post(PATH, json=body)
    assert response.status_code == 200, response.text
    assert response.headers["x-ignored-parameters"] == "quality, user, colour, other"
    assert [await service.metric(metric % name) for name in ("quality", "other")] == [before[0] + 1, before[1] + 2]
    streamed = await service.client.post(PATH, json={"prompt": "x", "stream": True, "moderation": "low"})
    assert streamed.headers["x-ignored-parameters"] == "moderation"
    assert "x-ignored-parameters" not in (await service.client.post(PATH, json={"prompt": "x"})).headers


@pytest.mark.parametrize("name", ["dall-e-3", "gpt-image-1", "viscpm-paint", "painter"])
async def test_every_name_of_the_model_may_be_asked_for(service: Service, name: str) -> None:
    await paint(service, model=name)


@pytest.mark.parametrize(
    ("fields", "code", "param", "message"),
    [
        ({"n": 5}, "invalid_request", "n", "less than or equal to 4, got 5"),
        ({"prompt": ""}, "invalid_request", "prompt", "at least 1 character"),
        ({"prompt": "x" * 2049}, "invalid_request", "prompt", "2049 characters, at most 2048"),
        ({"size": "big"}, "invalid_request", "size", "such as 512x512, got 'big'"),
        ({"partial_images": 1}, "invalid_request", None, "partial_images needs stream"),
        ({"partial_images": 4, "stream": True}, "invalid_request", "partial_images", "equal to 3, got 4"),
        ({"output_format": "gif"}, "invalid_request", "output_format", "'png', 'jpeg' or 'webp', got 'gif'"),
        ({"response_format": "url", "stream": True}, "invalid_request", "response_format", "'b64_json' can"),
        ({"rerank": True}, "reranker_not_configured", "rerank", "no reranker"),
        ({"num_inference_steps": 401}, "invalid_request", None, "VISCPM_MAX_PIXEL_STEPS"),
        ({"prompt": UNKNOWN}, "unknown_words", "prompt", "none of it is known"),
    ],
)
async def test_what_cannot_be_had_is_refused_by_name(
    service: Service, fields: dict[str, Any], code: str, param: str | None, message: str
) -> None:
    error = assert_error(await service.client.post(PATH, json={"prompt": "x", **fields}), 400, code, param)
    assert message in error["message"]


@pytest.mark.parametrize(
    ("model", "message"), [("gpt-4o", "answers questions and cannot be asked here; use one of"), ("sd", "no 'sd' here")]
)
async def test_other_models_are_not_found(service: Service, model: str, message: str) -> None:
    response = await service.client.post(PATH, json={"prompt": "x", "model": model})
    assert message in assert_error(response, 404, "model_not_found", "model")["message"]
    assert await service.accounting() == {}


@pytest.mark.parametrize("path", ["edits", "variations"])
async def test_pictures_of_pictures_are_told_to_be_none(service: Service, path: str) -> None:
    response = await service.client.post(f"/v1/images/{path}", data={"prompt": "x"}, files={"image": b"png"})
    assert "POST /v1/images/generations" in assert_error(response, 404, "not_found")["message"]


async def test_a_stream_sends_previews_then_pictures(service: Service) -> None:
    body = {"prompt": "paint 4", "stream": True, "partial_images": 2, "n": 2, "seed": 5, "size": "1024x1024"}
    response = await service.client.post(PATH, json=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    events = sse_events(response.text)
    names = [name.removeprefix("image_generation.") for name, _ in events]
    assert names == ["partial_image"] * 2 + ["completed"] * 2 + [""] and events[-1][1] == "[DONE]"
    shared = {"type", "b64_json", "created_at", "size", "quality", "background", "output_format"}
    for index, (name, data) in enumerate(events[:2]):
        assert set(data) == shared | {"partial_image_index"} and data["partial_image_index"] == index
        assert data["type"] == name and data["size"] == "64x64" and opened(data["b64_json"]).size == (64, 64)
    for seed, (name, data) in zip((5, 6), events[2:4], strict=True):
        assert set(data) == shared | {"usage", "viscpm"} and data["type"] == name and data["viscpm"]["seeds"] == [seed]
        assert opened(data["b64_json"]).getpixel((0, 0)) == colour_of(seed)
        assert data["usage"]["input_tokens_details"] == {"text_tokens": 5, "image_tokens": 0}
        assert (data["quality"], data["background"], data["size"]) == ("auto", "opaque", "64x64")


async def test_an_error_of_a_stream_is_an_event(service: Service) -> None:
    (_, data), last = sse_events((await service.client.post(PATH, json={"prompt": UNKNOWN, "stream": True})).text)
    assert data["error"]["code"] == "unknown_words" and last[1] == "[DONE]"


async def test_who_does_not_wait_gets_the_job(service: Service) -> None:
    body, headers = {"prompt": "x", "model": "dall-e-3"}, {"Prefer": "respond-async"}
    response = await service.client.post(PATH, json=body, headers=headers)
    assert response.status_code == 202 and response.headers["location"] == f"/jobs/{response.json()['id']}"
    refused = await service.client.post(PATH, json={**body, "response_format": "url"}, headers=headers)
    assert_error(refused, 400, "invalid_request", "response_format")


async def test_a_picture_at_an_address_is_the_one_that_was_painted(service: Service) -> None:
    before = int(time.time())
    answer = await paint(service, n=2, seed=9, response_format="url", output_format="jpeg", prompt="two cats")
    assert [list(one) for one in answer["data"]] == [["url"]] * 2
    for seed, one in zip((9, 10), answer["data"], strict=True):
        url = httpx.URL(one["url"])
        assert str(url).startswith(f"{service.url}/v1/images/pictures/img-") and url.path.endswith(".jpeg")
        assert before + 3600 <= int(url.params["expires"]) <= time.time() + 3600
        fetched = await service.client.get(url)
        assert (fetched.status_code, fetched.headers["content-type"]) == (200, "image/jpeg")
        assert fetched.headers["x-content-type-options"] == "nosniff"
        assert "max-age=3" in fetched.headers["cache-control"]
        picture = Image.open(io.BytesIO(fetched.content)).convert("RGB")
        got, wanted = picture.getpixel((0, 0)), colour_of(seed)
        assert all(abs(a - b) <= 3 for a, b in zip(got, wanted, strict=True))  # type: ignore[arg-type]
        head = await service.client.head(url)
        assert (head.status_code, head.content) == (200, b"")
    # As of a job: the labels are on it
    assert b"AIGC" in fetched.content or b"trainedAlgorithmicMedia" in fetched.content


async def test_addresses_that_were_not_given_lead_nowhere(service: Service) -> None:
    url = httpx.URL((await paint(service, response_format="url"))["data"][0]["url"])
    signature, expires = url.params["signature"], int(url.params["expires"])
    other = url.path.replace("img-", "img-x")[: -len(".png") - 1] + ".png"
    changed = [
        url.copy_set_param("expires", expires + 1),
        url.copy_set_param("signature", ("a" if signature[0] != "a" else "b") + signature[1:]),
        url.copy_set_param("signature", "ü"),
        url.copy_with(path=other),
        url.copy_with(path=url.path.replace(".png", ".webp")),
        url.copy_with(path="/v1/images/pictures/x"),
    ]
    for one in changed:
        assert_error(await service.client.get(one), 404, "image_not_found")
    assert_error(await service.client.get(url.copy_remove_param("signature")), 400, "invalid_request", "signature")
    assert (await service.client.get(url)).status_code == 200


@pytest.mark.parametrize(
    ("model", "kind"), [("dall-e-3", "url"), ("dall-e-2", "url"), ("gpt-image-1", "b64_json"), (None, "b64_json")]
)
async def test_what_nobody_asked_for_is_what_clients_of_the_name_read(
    service: Service, model: str | None, kind: str
) -> None:
    assert list((await paint(service, model=model))["data"][0]) == [kind]
    asked = await paint(service, model=model, response_format="b64_json")
    assert list(asked["data"][0]) == ["b64_json"]


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"])
async def test_behind_a_proxy_there_is_no_address_unless_one_is_set(service: Service, header: str) -> None:
    headers = {header: "10.0.0.1", "Host": "evil.example", "X-Forwarded-Host": "evil.example"}
    refused = await service.client.post(PATH, json={"prompt": "x", "response_format": "url"}, headers=headers)
    error = assert_error(refused, 400, "invalid_request", "response_format")
    assert "VISCPM_PUBLIC_URL is empty" in error["message"] and "evil" not in refused.text
    silent = await service.client.post(PATH, json={"prompt": "x", "model": "dall-e-3"}, headers=headers)
    assert list(silent.json()["data"][0]) == ["b64_json"]


async def test_a_public_address_is_what_urls_begin_with_and_any_process_answers(service: Service) -> None:
    public = service.state.settings.model_copy(
        update={"public_url": "https://pictures.example.org/viscpm", "root_path": "/viscpm"}
    )
    async with serving(public) as other:
        await other.ready()
        headers = {"X-Forwarded-For": "10.0.0.1"}
        body = {"prompt": "x", "response_format": "url"}
        answer = (await other.client.post(PATH, json=body, headers=headers)).json()
        url = httpx.URL(answer["data"][0]["url"])
        assert str(url).startswith("https://pictures.example.org/viscpm/v1/images/pictures/img-")
        here = await service.client.get(url.raw_path.decode().removeprefix("/viscpm"))
        there = await other.client.get(url.raw_path.decode())
        assert here.status_code == there.status_code == 200 and here.content == there.content


@pytest.mark.waiting
async def test_an_address_expires(service: Service) -> None:
    async with serving(service.state.settings.model_copy(update={"image_url_ttl_s": 1})) as brief:
        await brief.ready()
        url = httpx.URL((await paint(brief, response_format="url"))["data"][0]["url"])
        assert (await brief.client.get(url)).status_code == 200
        await asyncio.sleep(max(0.0, int(url.params["expires"]) - time.time()) + 0.05)
        expired = await service.client.get(url.raw_path.decode())
        assert "expired" in assert_error(expired, 404, "image_not_found")["message"]


@pytest.mark.parametrize(
    ("budget_bytes", "code", "status"), [(0, "invalid_request", 400), (50, "service_unavailable", 503)]
)
async def test_pictures_that_have_no_room_are_refused(
    service: Service, budget_bytes: int, code: str, status: int
) -> None:
    async with serving(service.state.settings.model_copy(update={"image_url_bytes": budget_bytes})) as small:
        await small.ready()
        refused = await small.client.post(PATH, json={"prompt": "x", "response_format": "url"})
        param = "response_format" if status == 400 else None
        assert "VISCPM_IMAGE_URL_BYTES" in assert_error(refused, status, code, param)["message"]


async def test_what_is_flagged_leaves_on_no_way_and_is_kept_nowhere(service: Service) -> None:
    body = {"prompt": "paint 3", "seed": 10, "candidates": 1, "response_format": "url"}
    key = "{viscpm}:linked-pictures"
    async with serving(service.state.settings, WordScreens()) as guarded:
        await guarded.ready()
        await guarded.redis.delete(key)
        error = assert_error(
            await guarded.client.post(PATH, json={"prompt": "bad"}), 400, "content_policy_violation", "prompt"
        )
        assert error["moderation"]["flagged"] is True
        assert_error(await guarded.client.post(PATH, json=body), 400, "content_policy_violation")
        assert await guarded.redis.hlen(key) == 0
        streamed = await guarded.client.post(
            PATH, json={**body, "response_format": None, "stream": True, "partial_images": 2}
        )
        events = sse_events(streamed.text)
        assert [name for name, _ in events] == ["image_generation.partial_image", "", ""]  # of two, one was judged safe
        assert events[1][1]["error"]["code"] == "content_policy_violation"
        safe = await paint(guarded, seed=10, candidates=4, n=2, response_format="url", include=["moderation"])
        assert safe["viscpm"]["seeds"] == [11, 13] and await guarded.redis.hlen(key) == 2
        assert safe["viscpm"]["moderation"]["output"]["results"]


async def test_a_request_with_an_idempotency_key_is_painted_once(service: Service) -> None:
    async def ask(**fields: Any) -> httpx.Response:
        return await service.client.post(
            PATH, json={"prompt": "a cat", **fields}, headers={"Idempotency-Key": "order 4711"}
        )

    first, again = await ask(size="32x32"), await ask(size="32x32")
    assert first.status_code == 200 and again.json() == first.json()
    assert again.headers["idempotent-replayed"] == "true" and "idempotent-replayed" not in first.headers
    assert_error(await ask(size="64x64"), 422, "idempotency_key_reused", "Idempotency-Key")
    assert await service.accounting() == {"done": 1}
