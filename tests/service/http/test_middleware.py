"""Request ids, counters and answers to the unexpected; the limits of bodies."""

import asyncio
from typing import Any

from service.core.settings import Settings
from tests.service.web import Service, assert_error, serving

JSON = {"content-type": "application/json"}


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
