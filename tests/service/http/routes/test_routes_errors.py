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


async def test_pictures_that_are_wrong_end_their_job_as_failed(service: Service) -> None:
    wrong: list[tuple[str, str]] = [
        ("not base64!", "invalid_base64"),
        (encoded()[:-1], "invalid_base64"),
        ("data:image/png," + encoded(), "invalid_base64"),
        (base64.b64encode(b"hello world!").decode(), "invalid_image"),
        (base64.b64encode(picture_bytes(64, 64, kind="JPEG")[:300]).decode(), "invalid_image"),
        ("", "invalid_image"),
        ("https://example.org/cat.png", "image_fetch_disabled"),
    ]
    for image, code in wrong:
        assert_error(await service.ask("echo x", image=image), 400, code, "image")
    assert await service.accounting() == {"failed": len(wrong)}


async def test_too_many_pixels(settings: Settings) -> None:
    async with serving(settings.model_copy(update={"max_image_px": 100})) as service:
        await service.ready()
        assert_error(await service.ask("echo x", image=encoded(11, 10)), 400, "image_too_large", "image")
        assert (await service.ask("echo x", image=encoded(10, 10))).status_code == 200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"{", None),
        (b"[]", None),
        (b"null", None),
        (b'"x"', None),
        (b'{"question": "q"', None),
        (b"{}", "question"),
        (b'{"question": ""}', "question"),
        (b'{"question": 5}', "question"),
        (b'{"question": null}', "question"),
        (b'{"question": "q", "colour": 1}', "colour"),
        (b'{"question": "q", "image": 5}', "image"),
        (b'{"question": "q", "stream": "yes"}', "stream"),
        (b'{"question": "q", "num_beams": 0}', "num_beams"),
        (b'{"question": "q", "num_beams": 9}', "num_beams"),
        (b'{"question": "q", "num_beams": "3"}', "num_beams"),
        (b'{"question": "q", "max_new_tokens": 1}', "max_new_tokens"),
        (b'{"question": "q", "max_new_tokens": 1e99}', "max_new_tokens"),
        (b'{"question": "q", "temperature": 0}', "temperature"),
        (b'{"question": "q", "temperature": NaN}', "temperature"),
        (b'{"question": "q", "temperature": Infinity}', "temperature"),
        (b'{"question": "q", "temperature": 1e999}', "temperature"),
        (b'{"question": "q", "top_p": 1.5}', "top_p"),
        (b'{"question": "q", "seed": -1}', "seed"),
        (b'{"question": "q", "seed": ' + b"9" * 5000 + b"}", None),
        (b'{"question": "q", "do_sample": true, "num_beams": 2}', None),
        (b'{"question": "a\\u0000b"}', "question"),
        (b'{"question": "\\ud800"}', None),
        (b'{"question": "\xff\xfe"}', None),
        (b'{"question": "' + b"x" * 8193 + b'"}', "question"),
        (b'{"question": "q", "conversation_id": "' + b"x" * 65 + b'"}', "conversation_id"),
        (b"[" * 10_000, None),
        (b'{"a":' * 10_000, None),
    ],
)
async def test_bodies_that_are_wrong(service: Service, body: bytes, param: str | None) -> None:
    error = assert_error(await service.client.post("/chat", content=body, headers=JSON), 400, "invalid_request", param)
    assert error["type"] == "invalid_request_error" and len(error["message"]) < 400
    assert await service.accounting() == {}


async def test_texts_of_every_kind_are_answered_as_they_came(service: Service) -> None:
    for text in ("😀" * 2000, "مرحبا بالعالم", "a<b>&c", "\u200b零宽", "e\u0301", "𠮷野家", "tab\tand\nline"):
        assert (await service.ask(f"echo {text}")).json()["answer"] == text


async def test_routes_methods_and_media_that_are_not_there(service: Service) -> None:
    client = service.client
    assert_error(await client.get("/nothing"), 404, "not_found")
    wrong_method = await client.get("/chat")
    assert_error(wrong_method, 405, "method_not_allowed")
    assert wrong_method.headers["allow"] == "POST"
    for path in ("/chat", "/paint"):
        for content_type in ("text/plain", "application/x-www-form-urlencoded", ""):
            response = await client.post(path, content=b"x", headers={"content-type": content_type})
            assert_error(response, 415, "unsupported_media_type")
    assert await service.metric('viscpm_requests_total{outcome="not_found",route="unmatched"}') == 1
    assert await service.metric('viscpm_requests_total{outcome="unsupported_media_type",route="/paint"}') == 3


async def test_large_bodies_are_refused_declared_or_not(settings: Settings) -> None:
    async with serving(settings.model_copy(update={"max_body_bytes": 4096})) as service:
        await service.ready()
        large = b'{"question": "' + b"x" * 5000 + b'"}'
        assert_error(await service.client.post("/chat", content=large, headers=JSON), 413, "content_too_large")

        async def chunks() -> Any:
            for start in range(0, len(large), 100):
                yield large[start : start + 100]

        assert_error(await service.client.post("/chat", content=chunks(), headers=JSON), 413, "content_too_large")
        form = {"image": ("a.png", b"x" * 5000)}
        refused = await service.client.post("/chat", data={"question": "q"}, files=form)
        assert_error(refused, 413, "content_too_large")
        assert (await service.ask("echo fits")).status_code == 200
        assert await service.metric('viscpm_requests_total{outcome="content_too_large",route="/chat"}') == 3
        assert await service.accounting() == {"done": 1}


async def test_a_body_in_a_million_pieces_is_read(service: Service) -> None:
    body = json.dumps({"question": "echo pieces", "image": encoded()}).encode()

    async def pieces() -> Any:
        for byte in body:
            yield bytes([byte])

    response = await service.client.post("/chat", content=pieces(), headers=JSON)
    assert response.json()["answer"] == "pieces"


async def test_a_body_that_does_not_come_is_408(settings: Settings) -> None:
    async with serving(settings.model_copy(update={"body_timeout_s": 0.3})) as service:
        host, port = service.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /chat HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{")
        answer = await asyncio.wait_for(reader.read(-1), 5)
        assert answer.startswith(b"HTTP/1.1 408") and b'"code":"body_timeout"' in answer
        assert b"connection: close" in answer.lower()
        writer.close()
        assert await service.accounting() == {}


async def test_request_ids_are_kept_where_they_can_be(service: Service) -> None:
    async def given_id(value: str) -> str:
        return (await service.client.get("/health/live", headers={"x-request-id": value})).headers["x-request-id"]

    assert await given_id("abc-123") == "abc-123"
    assert (await given_id("with space")).startswith("req-")
    assert (await given_id("x" * 129)).startswith("req-")


async def test_what_nobody_expected_is_a_500_without_insides(service: Service, caplog: Any) -> None:
    async def breaks(*_: object) -> None:
        raise RuntimeError("secret inside")

    service.state.conversations.get = breaks
    response = await service.client.get("/conversations/x", headers={"x-request-id": "find-me"})
    error = assert_error(response, 500, "internal_error")
    assert "secret" not in response.text and error["type"] == "server_error"
    assert response.headers["x-request-id"] == "find-me"
    assert "find-me" in caplog.text and "secret inside" in caplog.text


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
