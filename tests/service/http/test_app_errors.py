"""What can be wrong with a request, and that every route says so in the one documented form."""

import asyncio
import base64
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from service.core.settings import Settings
from tests.service.tree import quick_settings
from tests.service.web import Service, assert_error, encoded, picture_bytes, serving

JSON = {"content-type": "application/json"}


@pytest.mark.slow
async def test_pictures_that_are_wrong_end_their_job_as_refused(service: Service) -> None:
    wrong: list[tuple[str, str]] = [
        ("not base64!", "invalid_base64"),
        ("QUJDR", "invalid_base64"),  # no number of bytes has five characters
        ("data:image/png," + encoded(), "invalid_base64"),
        (base64.b64encode(b"hello world!").decode(), "invalid_image"),
        (base64.b64encode(picture_bytes(64, 64, kind="JPEG")[:300]).decode(), "invalid_image"),
        ("", "invalid_image"),
        ("https://example.org/cat.png", "image_fetch_disabled"),
    ]
    for image, code in wrong:
        assert_error(await service.ask("echo x", image=image), 400, code, "image")
    assert await service.accounting() == {"refused": len(wrong)}
    assert await service.metric('viscpm_jobs{model="chat",state="refused"}') == len(wrong)
    assert await service.metric('viscpm_jobs{model="chat",state="failed"}') == 0
    [job_id] = [key.decode().split(":", 2)[2] for key in (await service.redis.keys("{viscpm}:job:*"))[:1]]
    job = (await service.client.get(f"/jobs/{job_id}")).json()
    assert job["state"] == "refused" and job["error"]["code"] in {code for _, code in wrong}


async def test_too_many_pixels(settings: Settings) -> None:
    async with serving(settings.model_copy(update={"max_image_px": 100})) as service:
        await service.ready()
        assert_error(await service.ask("echo x", image=encoded(11, 10)), 400, "image_too_large", "image")
        assert (await service.ask("echo x", image=encoded(10, 10))).status_code == 200


@pytest.mark.slow
async def test_texts_of_every_kind_are_answered_as_they_came(service: Service) -> None:
    for text in ("😀" * 2000, "مرحبا بالعالم", "a<b>&c", "\u200b零宽", "e\u0301", "𠮷野家", "tab\tand\nline"):
        assert (await service.ask(f"echo {text}")).json()["answer"] == text


@pytest.mark.slow
async def test_redis_away_is_503_without_hanging_and_comes_back(own_server: Any) -> None:
    async with serving(quick_settings(own_server.url)) as service:
        own_server.stop()
        loop = asyncio.get_running_loop()
        for call in (
            service.client.get("/conversations/x"),
            service.client.delete("/conversations/x"),
            service.client.get("/jobs/x"),
            service.ask("echo x"),
        ):
            began_s = loop.time()
            response = await call
            assert_error(response, 503, "bus_unavailable")
            assert int(response.headers["retry-after"]) >= 1
            assert loop.time() - began_s < 3.5
        assert (await service.client.get("/health/live")).status_code == 200
        ready = await service.client.get("/health/ready")
        assert ready.status_code == 503 and "redis" in ready.json()["down"]
        assert (await service.client.get("/metrics")).status_code == 200
        own_server.start()

        async def is_back() -> bool:
            return (await service.client.get("/conversations/x")).status_code == 404

        from tests.service.tree import eventually

        await eventually(is_back)


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_fields = st.sampled_from(
    ["image", "question", "conversation_id", "stream", "num_beams", "seed", "prompt", "n", "size", "rerank", "x"]
)
_bodies = st.dictionaries(_fields, _values, max_size=5).map(lambda body: json.dumps(body).encode()) | st.binary(
    max_size=60
)
_paths = st.sampled_from(
    [
        "/chat",
        "/paint",
        "/jobs/%00",
        "/jobs/x/events",
        "/conversations/%F0%9F",
        "/v2/models/%2F..",
        "/metrics?scope=%00",
        "/",
    ]
)
_media = st.sampled_from(
    ["application/json", "multipart/form-data", "multipart/form-data; boundary=x", "text/plain", "é"]
)


@pytest.mark.fuzzing
async def test_random_requests_are_never_a_500(service: Service) -> None:
    requests: list[tuple[str, str, bytes, str]] = []

    @hypothesis_settings(
        max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(st.sampled_from(["GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS"]), _paths, _bodies, _media)
    def collect(method: str, path: str, body: bytes, media: str) -> None:
        requests.append((method, path, body, media))

    collect()
    for method, path, body, media in requests:
        headers = {"content-type": media.encode()}
        response = await service.client.request(method, path, content=body, headers=headers)  # type: ignore[arg-type]
        assert response.status_code < 500, (method, path, body, media, response.text)
        if response.status_code >= 400 and method != "HEAD":
            assert set(response.json()["error"]) >= {"message", "type", "param", "code"}
    await service.accounting()
