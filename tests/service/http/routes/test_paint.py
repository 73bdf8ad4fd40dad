"""POST /paint over HTTP, with a real worker behind it."""

import base64
import io

import pytest
from PIL import Image

from tests.service.painter import UNKNOWN, colour_of
from tests.service.tree import eventually, log_lines
from tests.service.web import Service, assert_error, sse_events


async def test_pictures_come_as_base64_with_their_seeds(service: Service) -> None:
    response = await service.client.post("/paint", json={"prompt": "两只猫", "n": 2, "seed": 40, "candidates": 3})
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["object"] == "paint.answer" and answer["output_format"] == "png" and answer["size"] == "64x64"
    assert [one["seed"] for one in answer["data"]] == [40, 41] and [one["score"] for one in answer["data"]] == [
        None
    ] * 2
    for one in answer["data"]:
        picture = Image.open(io.BytesIO(base64.b64decode(one["b64_json"])))
        assert (picture.format, picture.size, picture.getpixel((0, 0))) == ("PNG", (64, 64), colour_of(one["seed"]))
    assert answer["usage"] == {"input_tokens": 5, "output_tokens": 0, "total_tokens": 5}
    assert answer["candidates"] == 3 and answer["untrained"] is True and answer["timings"]["denoise_ms"] == 500
    assert await service.accounting() == {"done": 1}


@pytest.mark.slow
@pytest.mark.parametrize(("output_format", "pil"), [("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
async def test_output_formats(service: Service, output_format: str, pil: str) -> None:
    body = {"prompt": "x", "output_format": output_format, "output_compression": 80, "size": "64x128"}
    answer = (await service.client.post("/paint", json=body)).json()
    picture = Image.open(io.BytesIO(base64.b64decode(answer["data"][0]["b64_json"])))
    assert (picture.format, picture.size) == (pil, (64, 128)) and answer["size"] == "64x128"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("image/*", "image/png"),
        ("image/webp", "image/webp"),
        ("image/jpeg;q=0.9, application/json;q=0.1", "image/jpeg"),
        ("*/*", "application/json"),
        ("application/json, image/png", "application/json"),
    ],
)
async def test_the_accept_header_chooses_json_or_the_picture(service: Service, accept: str, media: str) -> None:
    response = await service.client.post("/paint", json={"prompt": "x", "seed": 9}, headers={"accept": accept})
    assert response.headers["content-type"].split(";")[0] == media
    if media != "application/json":
        assert response.headers["x-seed"] == "9" and response.headers["x-job-id"].startswith("paint-")
        assert Image.open(io.BytesIO(response.content)).size == (64, 64)


@pytest.mark.slow
async def test_what_accept_cannot_have_is_406_and_takes_no_slot(service: Service) -> None:
    async def post(accept: str, **fields: object) -> object:
        body = {"prompt": "x", **fields}
        return await service.client.post("/paint", json=body, headers={"accept": accept})

    assert_error(await post("text/html"), 406, "not_acceptable")
    assert_error(await post("image/*", n=2), 406, "not_acceptable", "n")
    assert_error(await post("image/*", stream=True), 406, "not_acceptable", "n")
    assert_error(await post("image/png", output_format="webp"), 406, "not_acceptable", "output_format")
    assert await service.accounting() == {}


async def test_what_the_model_cannot_do_is_refused_before_a_slot(service: Service) -> None:
    for fields, param in (
        ({"size": "big"}, "size"),
        ({"n": 3, "candidates": 2}, None),
        ({"partial_images": 1}, None),
        ({"sampler": "plms"}, "sampler"),
        ({"n": 5}, "n"),
        ({"response_format": "url"}, "response_format"),
        ({"guidance_scale": -1}, "guidance_scale"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": "x" * 2049}, "prompt"),
    ):
        response = await service.client.post("/paint", json={"prompt": "x", **fields})
        assert_error(response, 400, "invalid_request", param)
    for fields, code, param in (
        ({"rerank": True}, "reranker_not_configured", "rerank"),
        ({"size": "60x60"}, "invalid_size", "size"),
        ({"size": "2048x64"}, "invalid_size", "size"),
    ):
        response = await service.client.post("/paint", json={"prompt": "x", **fields})
        assert_error(response, 400, code, param)
    assert await service.accounting() == {}


@pytest.mark.slow
async def test_a_stream_sends_progress_previews_and_every_picture(service: Service) -> None:
    body = {"prompt": "paint 4", "stream": True, "partial_images": 2, "n": 2, "seed": 5}
    response = await service.client.post("/paint", json=body)
    events = sse_events(response.text)
    names = [name.removeprefix("image_generation.") for name, _ in events]
    assert names == ["progress", "partial_image"] * 2 + ["progress"] * 2 + ["completed"] * 2 + [""]
    assert all(data == "[DONE]" or data["type"] == name for name, data in events)
    previews = [data for name, data in events if name.endswith("partial_image")]
    assert [preview["partial_image_index"] for preview in previews] == [0, 1]
    assert Image.open(io.BytesIO(base64.b64decode(previews[0]["b64_json"]))).format == "PNG"
    completed = [data for name, data in events if name.endswith("completed")]
    assert [(one["index"], one["seed"]) for one in completed] == [(0, 5), (1, 6)]
    assert completed[0]["usage"]["input_tokens"] == 5 and completed[0]["size"] == "64x64"
    assert await service.accounting() == {"done": 1}


@pytest.mark.slow
async def test_cancelling_by_id_stops_the_painting(service: Service, worker_log: object) -> None:
    headers = {"Prefer": "respond-async"}
    job = (await service.client.post("/paint", json={"prompt": "paint 100000"}, headers=headers)).json()
    address = f"/jobs/{job['id']}"

    async def runs() -> bool:
        return (await service.client.get(address)).json()["state"] == "running"

    await eventually(runs)
    cancelled = await service.client.delete(address)
    assert cancelled.json()["state"] == "cancelled" and cancelled.json()["error"]["code"] == "cancelled"
    await eventually(lambda: log_lines(worker_log, "cancel", job["id"]))  # type: ignore[arg-type]
    assert (await service.client.delete(address)).json()["state"] == "cancelled"  # again: the same
    assert await service.accounting() == {"cancelled": 1}


async def test_accept_may_come_in_several_lines(service: Service) -> None:
    headers = [("accept", "text/html"), ("accept", "image/png")]
    response = await service.client.post("/paint", json={"prompt": "x"}, headers=headers)
    assert response.status_code == 200 and response.headers["content-type"] == "image/png"


@pytest.mark.parametrize(("candidates", "highest"), [(1, 2**53 - 1), (4, 2**53 - 4)])
async def test_every_seed_that_is_told_is_one_that_may_be_asked_for(
    service: Service, candidates: int, highest: int
) -> None:
    body = {"prompt": "a", "n": candidates, "candidates": candidates}
    told = (await service.client.post("/paint", json={**body, "seed": highest})).json()
    assert [one["seed"] for one in told["data"]] == list(range(highest, 2**53))
    again = await service.client.post("/paint", json={"prompt": "a", "seed": told["data"][-1]["seed"]})
    assert again.status_code == 200
    refused = await service.client.post("/paint", json={**body, "seed": highest + 1})
    assert_error(refused, 400, "invalid_request", "seed")


async def test_unknown_words_are_told_in_every_kind_of_answer(service: Service) -> None:
    known = (await service.client.post("/paint", json={"prompt": "red apple"})).json()
    assert known["unknown_words"] == []

    body = {"prompt": f"red {UNKNOWN}"}
    answer = (await service.client.post("/paint", json=body)).json()
    assert answer["unknown_words"] == [UNKNOWN]
    assert (await service.client.get(f"/jobs/{answer['id']}")).json()["answer"]["unknown_words"] == [UNKNOWN]
    events = sse_events((await service.client.post("/paint", json={**body, "stream": True, "n": 2})).text)
    completed = [data for name, data in events if name.endswith("completed")]
    assert [one["unknown_words"] for one in completed] == [[UNKNOWN]] * 2
    assert await service.accounting() == {"done": 3}


async def test_a_prompt_of_which_nothing_is_known_is_refused(service: Service) -> None:
    body = {"prompt": UNKNOWN}
    error = assert_error(await service.client.post("/paint", json=body), 400, "unknown_words", "prompt")
    assert error["type"] == "invalid_request_error" and repr(UNKNOWN) in error["message"]
    (_, event), _ = sse_events((await service.client.post("/paint", json={**body, "stream": True})).text)
    assert (event["error"]["code"], event["error"]["param"]) == ("unknown_words", "prompt")
    assert await service.accounting() == {"refused": 2}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "got", "is_allowed"),
    [
        ({}, "", True),
        ({"n": 4, "num_inference_steps": 100}, "", True),
        ({"size": "128x256"}, "", True),
        ({"num_inference_steps": 400}, "", True),
        ({"num_inference_steps": 401}, "1 candidates x 4096 pixels (64x64) x 401 steps are 1642496 pixel steps", False),
        ({"size": "128x512"}, "1 candidates x 65536 pixels (128x512) x 50 steps are 3276800 pixel steps", False),
        ({"candidates": 4, "num_inference_steps": 101}, "4 candidates x 4096 pixels (64x64) x 101 steps", False),
    ],
)
async def test_work_of_more_than_eight_default_requests_is_refused_before_a_slot(
    service: Service, fields: dict[str, object], got: str, is_allowed: bool
) -> None:
    response = await service.client.post("/paint", json={"prompt": "x", **fields})
    if is_allowed:
        assert response.status_code == 200, response.text
        return
    error = assert_error(response, 400, "invalid_request")
    assert got in error["message"] and "at most 1638400 are allowed (VISCPM_MAX_PIXEL_STEPS)" in error["message"]
    assert await service.accounting() == {}
