"""One line for each request, when its response has ended: ids, counts and codes, and nothing of what was said."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from service.core.metrics import Metrics
from service.http.middleware import RequestContext
from tests.service.tree import eventually
from tests.service.web import Service, encoded

Told = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Told:
    """The lines of requests so far."""
    caplog.set_level(logging.INFO, "service.http.middleware")

    def lines() -> list[dict[str, Any]]:
        requests = [one for one in caplog.records if one.getMessage() == "request" and one.levelno >= logging.INFO]
        return [dict(one.fields) for one in requests]  # type: ignore[attr-defined]

    return lines


async def test_a_line_tells_route_ids_work_and_outcome(service: Service, told: Told) -> None:
    asked = {"question": "stream 3", "image": encoded()}
    answer = await service.client.post("/chat", json=asked, headers={"x-request-id": "find-me"})
    await service.client.post("/paint", json={"prompt": "paint 4"})
    await service.client.get(f"/jobs/{answer.json()['id']}")
    chat, paint, job = told()
    assert 0 < chat.pop("duration_ms") < 30_000
    assert chat == {
        "method": "POST",
        "route": "/chat",
        "status": 200,
        "request_id": "find-me",
        "job_id": answer.json()["id"],
        "tokens": 3,
        "outcome": "ok",
    }
    assert (paint["route"], paint["steps"], paint["job_id"].split("-")[0]) == ("/paint", 4, "paint")
    assert (job["method"], job["route"], job["job_id"]) == ("GET", "/jobs/{job_id}", chat["job_id"])


@pytest.mark.slow
async def test_a_stream_is_told_at_its_end(service: Service, told: Told) -> None:
    async with service.client.stream("POST", "/chat", json={"question": "stream 20", "stream": True}) as answer:
        lines = answer.aiter_lines()
        await anext(lines)
        assert told() == []
        async for _ in lines:
            pass
    await eventually(told)
    [line] = told()
    assert (line["status"], line["outcome"], line["tokens"]) == (200, "ok", 20)
    assert line["duration_ms"] >= 20 * 2  # the worker's steps
    paint = {"prompt": "paint 5", "stream": True}
    await service.client.post("/paint", json=paint)
    assert told()[-1]["steps"] == 5


@pytest.mark.slow
@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_client_that_leaves_is_told_so(service: Service, told: Told, is_stream: bool) -> None:
    asked = {"question": "stream 5000", "stream": is_stream}
    with pytest.raises(httpx.TimeoutException):
        async with service.client.stream("POST", "/chat", json=asked, timeout=0.4) as answer:
            async for _ in answer.aiter_lines():
                await asyncio.sleep(0.5)
                raise httpx.ReadTimeout("leaves")
    await eventually(told)
    [line] = told()
    assert line["outcome"] == "client_gone" and line["job_id"].startswith("chat-")
    assert line["status"] == (200 if is_stream else 499)


@pytest.mark.slow
async def test_what_is_refused_is_told_by_its_code(service: Service, told: Told) -> None:
    await service.client.get("/jobs/a-secret")
    await service.client.get("/a-secret?key=a-secret")
    await service.client.post("/chat", json={"a-secret": 1})
    await service.ask("reject")
    assert [(line["route"], line["outcome"], line["status"]) for line in told()] == [
        ("/jobs/{job_id}", "job_not_found", 404),
        ("unmatched", "not_found", 404),
        ("/chat", "invalid_request", 400),
        ("/chat", "context_length_exceeded", 400),
    ]
    assert "a-secret" not in repr(told())
    assert ["job_id" in line for line in told()] == [False, False, False, True]


@pytest.mark.slow
async def test_what_machines_ask_for_all_the_time_is_not_told(service: Service, told: Told) -> None:
    for path in ("/health/live", "/health/ready", "/metrics", "/v2", "/v2/health/ready", "/v2/models/chat"):
        await service.client.get(path)
    assert told() == []


@pytest.mark.slow
async def test_an_id_that_could_forge_a_line_is_replaced(service: Service, told: Told) -> None:
    for value in ("a b", "x" * 129, "\u00e4", "a\tb"):
        answer = await service.client.get("/jobs/x", headers={"x-request-id": value.encode("latin-1")})
        assert answer.headers["x-request-id"] == told()[-1]["request_id"] != value
        assert told()[-1]["request_id"].startswith("req-")


async def test_what_breaks_after_the_beginning_is_cut_off(told: Told) -> None:
    async def breaks(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("too late")

    async def nothing(*_: Any) -> Any: ...

    context = RequestContext(breaks, Metrics("api"))
    with pytest.raises(RuntimeError):
        await context({"type": "http", "method": "GET", "path": "/x", "headers": ()}, nothing, nothing)
    assert [(line["outcome"], line["status"]) for line in told()] == [("cut_off", 200)]
