"""Every way in which a painted picture leaves a service with a key: signed, and valid to who trusts the authority."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from service.core.settings import Settings
from service.image_output.credential_reader import read_credentials
from service.image_output.provenance import CredentialsUnusable
from tests.service.image_output.signing_files import SigningFiles, signing_files
from tests.service.tree import eventually
from tests.service.web import Service, serving, sse_events


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> SigningFiles:
    return signing_files(tmp_path_factory.mktemp("signing"))


@pytest.fixture
async def signing(settings: Settings, files: SigningFiles) -> AsyncIterator[Service]:
    async with serving(settings.model_copy(update={**files.settings(), "a1111": "on"})) as served:
        await served.ready()
        yield served


def assert_signed(files: SigningFiles, data: bytes | str, output_format: str = "png") -> bytes:
    picture = base64.b64decode(data) if isinstance(data, str) else data
    found = read_credentials(picture, output_format, files.authority.read_text())
    assert found is not None and (found.state, found.problems) == ("trusted", ())
    assert b"secret garden" not in picture
    return picture


def pictures(events: list[tuple[str, Any]]) -> list[str]:
    return [data["b64_json"] for _, data in events if isinstance(data, dict) and "b64_json" in data]


@pytest.mark.slow
async def test_paint_in_json_as_a_picture_streamed_polled_and_read_again(signing: Service, files: SigningFiles) -> None:
    body = {"prompt": "secret garden", "seed": 3}
    answer = (await signing.client.post("/paint", json=body)).json()
    assert_signed(files, answer["data"][0]["b64_json"])
    for output_format in ("png", "jpeg", "webp"):
        asked = {**body, "output_format": output_format}
        bare = await signing.client.post("/paint", json=asked, headers={"accept": f"image/{output_format}"})
        assert bare.headers["content-type"] == f"image/{output_format}"
        assert_signed(files, bare.content, output_format)

    asked = {**body, "stream": True, "partial_images": 1}
    events = sse_events((await signing.client.post("/paint", json=asked)).text)
    streamed = [assert_signed(files, one) for one in pictures(events)]
    assert len(streamed) == 2, "a preview among them"
    job_id = next(data["id"] for name, data in events if name.endswith("completed"))
    again = sse_events((await signing.client.get(f"/jobs/{job_id}/events")).text)
    assert assert_signed(files, pictures(again)[-1]) == streamed[-1], "what is kept is the signed picture"

    job = (await signing.client.post("/paint", json=body, headers={"Prefer": "respond-async"})).json()

    async def is_done() -> bool:
        return (await signing.client.get(f"/jobs/{job['id']}")).json()["state"] == "done"

    await eventually(is_done)
    polled = (await signing.client.get(f"/jobs/{job['id']}")).json()["answer"]["data"][0]["b64_json"]
    assert_signed(files, polled)


@pytest.mark.slow
async def test_the_images_api_and_a1111(signing: Service, files: SigningFiles) -> None:
    body = {"model": "viscpm-paint", "prompt": "secret garden"}
    path = "/v1/images/generations"
    answer = (await signing.client.post(path, json={**body, "response_format": "b64_json"})).json()
    assert_signed(files, answer["data"][0]["b64_json"])
    linked = (await signing.client.post(path, json={**body, "response_format": "url", "output_format": "webp"})).json()
    fetched = await signing.client.get(linked["data"][0]["url"])
    assert_signed(files, fetched.content, "webp")
    asked = {**body, "stream": True, "partial_images": 1}
    streamed = pictures(sse_events((await signing.client.post(path, json=asked)).text))
    assert len(streamed) == 2 and all(assert_signed(files, one) for one in streamed)
    painted = await signing.client.post("/sdapi/v1/txt2img", json={"prompt": "secret garden"})
    assert_signed(files, painted.json()["images"][0])


async def test_a_service_with_a_wrong_key_is_not_made(settings: Settings, files: SigningFiles, tmp_path: Path) -> None:
    other = signing_files(tmp_path)
    wrong = settings.model_copy(update={**files.settings(), "c2pa_key_file": str(other.key)})
    with pytest.raises(CredentialsUnusable, match="not the key of the first certificate"):
        async with serving(wrong):
            pass
