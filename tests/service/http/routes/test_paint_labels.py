"""Every way in which a painted picture leaves the service carries the same label."""

import base64
import io
import json
from collections.abc import AsyncIterator

import pytest
from PIL import Image

from service.core.settings import Settings
from tests.service.painter import colour_of
from tests.service.tree import eventually
from tests.service.web import Service, serving, sse_events

PROMPT = "paint 3"


def read(data: bytes | str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(data) if isinstance(data, str) else data))


def assert_labelled(picture: Image.Image, number: str, request_id: str = "ask-1", model: str = "painter") -> str:
    """The picture's number, after its labels were checked."""
    record = json.loads(picture.info["AIGC"])
    assert picture.info["Request-Id"] == request_id and picture.info["Source"] == f"{model} test"
    assert "trainedAlgorithmicMedia" in picture.info["XML:com.adobe.xmp"]
    assert picture.getexif()[0x0131].startswith("VisCPM service ")
    assert record["Label"] == "1" and record["ProduceID"].endswith(f"-{number}")
    return str(record["ProduceID"])


HEADERS = {"x-request-id": "ask-1"}


async def test_json_and_the_picture_itself(service: Service) -> None:
    answer = await service.client.post("/paint", json={"prompt": PROMPT, "n": 2, "seed": 3}, headers=HEADERS)
    pictures = [read(one["b64_json"]) for one in answer.json()["data"]]
    numbers = {assert_labelled(picture, str(index)) for index, picture in enumerate(pictures, start=1)}
    assert len(numbers) == 2 and answer.json()["id"] not in pictures[0].info["XML:com.adobe.xmp"]
    assert [picture.getpixel((60, 60)) for picture in pictures] == [colour_of(3), colour_of(4)], "no visible label"
    bare = await service.client.post("/paint", json={"prompt": PROMPT}, headers={**HEADERS, "accept": "image/png"})
    assert_labelled(read(bare.content), "1")


async def test_a_request_without_an_id_gets_the_one_of_its_answer(service: Service) -> None:
    answer = await service.client.post("/paint", json={"prompt": PROMPT})
    assert_labelled(read(answer.json()["data"][0]["b64_json"]), "1", answer.headers["x-request-id"])


async def test_streams_with_their_previews_and_resumed_ones(service: Service) -> None:
    body = {"prompt": PROMPT, "stream": True, "partial_images": 2, "n": 2, "seed": 5}
    events = sse_events((await service.client.post("/paint", json=body, headers=HEADERS)).text)
    previews = [data for name, data in events if name.endswith("partial_image")]
    completed = [data for name, data in events if name.endswith("completed")]
    for index, preview in enumerate(previews, start=1):  # what is known of them before and after the job's end
        info = read(preview["b64_json"]).info
        assert json.loads(info["AIGC"])["ProduceID"].endswith(f"-preview-{index}")
        assert info["Source"] == "painter" and "Request-Id" not in info
    for index, one in enumerate(completed, start=1):
        assert_labelled(read(one["b64_json"]), str(index))
    assert len(previews) == 2 and len(completed) == 2

    again = sse_events((await service.client.get(f"/jobs/{completed[0]['id']}/events")).text)
    assert [data for name, data in again if name.endswith("completed")] == completed
    assert [data["b64_json"] for name, data in again if name.endswith("partial_image")] == [
        preview["b64_json"] for preview in previews
    ]


async def test_polled_and_resumed_while_it_runs(service: Service) -> None:
    headers = {"Prefer": "respond-async", **HEADERS}
    body = {"prompt": "paint 30", "n": 1}
    job = (await service.client.post("/paint", json=body, headers=headers)).json()
    events = sse_events((await service.client.get(f"/jobs/{job['id']}/events")).text)
    completed = next(data for name, data in events if name.endswith("completed"))
    assert_labelled(read(completed["b64_json"]), "1")

    async def is_done() -> bool:
        return (await service.client.get(f"/jobs/{job['id']}")).json()["state"] == "done"

    await eventually(is_done)
    polled = (await service.client.get(f"/jobs/{job['id']}")).json()["answer"]["data"][0]
    assert polled["b64_json"] == completed["b64_json"]


@pytest.fixture
async def visible_service(settings: Settings) -> AsyncIterator[Service]:
    async with serving(settings.model_copy(update={"label_visible": "auto"})) as served:
        await served.ready()
        yield served


@pytest.mark.slow
async def test_the_visible_label_in_pictures_and_previews(visible_service: Service) -> None:
    async def ends(prompt: str) -> list[bytes]:
        body = {"prompt": prompt, "stream": True, "partial_images": 1, "seed": 0}
        events = sse_events((await visible_service.client.post("/paint", json=body)).text)
        pictures = [
            read(data["b64_json"])
            for name, data in events
            if "image_generation.p" in name or "comp" in name
            if "b64_json" in data
        ]
        assert len(pictures) == 2
        return [picture.crop((0, 32, 64, 64)).tobytes() for picture in pictures]

    chinese, english = await ends("两只猫"), await ends("two cats")
    for one, other in zip(chinese, english, strict=True):
        assert one != other and len(set(one)) > 3 and len(set(other)) > 3, "letters in it, of two languages"
