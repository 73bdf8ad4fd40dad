"""Slots: none left, and clients that go away with one in hand."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from service.core.errors import InvalidRequest
from service.core.settings import Settings
from service.http.admission import wants_async
from tests.service.tree import eventually, log_lines
from tests.service.web import Service, assert_error, encoded, serving


@pytest.mark.slow
async def test_a_full_queue_refuses_at_once_and_decodes_nothing(service: Service, settings: Settings) -> None:
    size, extra = 4, 3
    async with (
        serving(settings.model_copy(update={"queue_size": size})) as full,
        serving(settings.model_copy(update={"queue_size": size})) as twin,
    ):
        await full.ready()
        await twin.ready()
        sides = [full, twin]
        waiting = [asyncio.create_task(sides[i % 2].ask("stream 400", image=encoded())) for i in range(size)]
        await eventually(lambda: _are_full(sides, size))
        decodes = [side.state.images.decodes for side in sides]
        loop = asyncio.get_running_loop()
        for i in range(extra):
            began_s = loop.time()
            refused = await sides[i % 2].ask("echo x", image=encoded())
            assert loop.time() - began_s < 0.2  # 50 ms on an idle machine
            error = assert_error(refused, 429, "queue_full")
            assert error["type"] == "rate_limit_error" and int(refused.headers["retry-after"]) >= 1
        assert [side.state.images.decodes for side in sides] == decodes
        answers = await asyncio.gather(*waiting)
        assert [answer.status_code for answer in answers] == [200] * size
        assert await full.accounting() == {"done": size}
        rejected = [
            await side.metric('viscpm_queue_rejections_total{model="chat",reason="queue_full"}') for side in sides
        ]
        assert sum(rejected) == extra


async def _are_full(sides: list[Service], size: int) -> bool:
    """Every slot is taken and its picture decoded: a slot is taken first."""
    decodes = sum(side.state.images.decodes for side in sides)
    return await sides[0].redis.zcard("{viscpm}:slots:chat") == size and decodes == size


@pytest.mark.slow
async def test_n_plus_k_at_once_gives_exactly_k_refusals(settings: Settings) -> None:
    size, extra = 5, 4
    async with serving(settings.model_copy(update={"queue_size": size})) as service:
        await service.ready()
        asked = [service.ask("stream 100", image=encoded()) for _ in range(size + extra)]
        statuses = sorted(response.status_code for response in await asyncio.gather(*asked))
        assert statuses == [200] * size + [429] * extra
        assert service.state.images.decodes == size
        assert await service.accounting() == {"done": size}


@pytest.mark.slow
async def test_a_client_that_goes_away_cancels_its_running_job(service: Service, worker_log: Path) -> None:
    for stream in (False, True):
        job_id = await _ask_and_leave(service, "stream 100000", stream)
        await eventually(lambda found=job_id: log_lines(worker_log, "cancel", found))
    await eventually(lambda: _has_ended(service, "cancelled:chat", 2))
    assert await service.accounting() == {"cancelled": 2}
    where = 'viscpm_jobs_cancelled_total{model="chat",where="running"}'
    assert await service.metric(where) == 2
    outcome = 'viscpm_requests_total{outcome="cancelled",route="/chat"}'
    await eventually(lambda: _is(service, outcome, 2))


async def test_a_client_that_goes_away_at_once_cancels_its_job_too(service: Service) -> None:
    """Also before anything listens for that."""
    host, port = service.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    data = json.dumps({"question": "stream 100000"}).encode()
    writer.write(_request_head(len(data)) + data)
    await eventually(lambda: service.redis.keys("{viscpm}:job:*"))
    writer.close()
    await writer.wait_closed()
    await eventually(lambda: _has_ended(service, "cancelled:chat", 1))
    assert await service.accounting() == {"cancelled": 1}


@pytest.mark.slow
async def test_a_client_that_goes_away_while_queued_never_starts_its_job(service: Service, worker_log: Path) -> None:
    blocking = [asyncio.create_task(service.ask("stream 400")) for _ in range(4)]  # all that the worker takes
    await eventually(lambda: _count(service, b"running", 4))
    await _leave_early(service, {"question": "echo late"})
    await eventually(lambda: _has_ended(service, "cancelled:chat", 1))
    assert await service.metric('viscpm_jobs_cancelled_total{model="chat",where="queued"}') == 1
    assert all(answer.status_code == 200 for answer in await asyncio.gather(*blocking))
    ids = [key.decode().split(":", 2)[2] for key in await service.redis.keys("{viscpm}:job:*")]
    states = {job_id: await service.redis.hget(f"{{viscpm}}:job:{job_id}", "state") for job_id in ids}
    [cancelled] = [job_id for job_id, state in states.items() if state == b"cancelled"]
    assert not log_lines(worker_log, "admit", cancelled)
    assert await service.accounting() == {"done": 4, "cancelled": 1}


async def _ask_and_leave(service: Service, question: str, stream: bool) -> str:
    """Leave once the job runs; its id."""
    known = set(await service.redis.keys("{viscpm}:job:*"))
    leaving = asyncio.create_task(_leave_early(service, {"question": question, "stream": stream}, after_s=0.3))

    async def runs() -> list[bytes]:
        new = set(await service.redis.keys("{viscpm}:job:*")) - known
        return [key for key in new if await service.redis.hget(key, "state") == b"running"]

    await eventually(runs)
    [key] = set(await service.redis.keys("{viscpm}:job:*")) - known
    await leaving
    return key.decode().split(":", 2)[2]


async def _leave_early(service: Service, body: dict[str, object], after_s: float = 0.2) -> None:
    host, port = service.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    data = json.dumps(body).encode()
    writer.write(_request_head(len(data)) + data)
    await writer.drain()
    await asyncio.sleep(after_s)
    writer.close()
    await writer.wait_closed()


def _request_head(body_bytes: int) -> bytes:
    return (
        f"POST /chat HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {body_bytes}\r\n"
        "Connection: close\r\n\r\n"
    ).encode()


async def _has_ended(service: Service, name: str, count: int) -> bool:
    return int(await service.redis.hget("{viscpm}:accounting", name) or 0) == count


async def _count(service: Service, state: bytes, count: int) -> bool:
    keys = await service.redis.keys("{viscpm}:job:*")
    return [await service.redis.hget(key, "state") for key in keys].count(state) == count


async def _is(service: Service, sample: str, value: float) -> bool:
    return await service.metric(sample) == value


@pytest.mark.parametrize(
    ("headers", "is_wanted"),
    [
        ([], False),
        ([("prefer", "respond-async")], True),
        ([("prefer", "Respond-Async, wait=10")], True),
        ([("prefer", "wait=10,respond-async")], True),
        ([("prefer", "respond-asynchronously")], False),
        ([("prefer", "wait=10"), ("prefer", "respond-async")], True),
        ([("prefer", "respond-async; hint=1")], True),
    ],
)
def test_a_client_prefers_not_to_wait_in_any_way_that_the_rfc_allows(
    headers: list[tuple[str, str]], is_wanted: bool
) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers]
    assert wants_async(Request({"type": "http", "headers": raw, "query_string": b""})) is is_wanted


@pytest.mark.parametrize(
    ("query", "is_wanted"), [("async=true", True), ("async=1", True), ("async=false", False), ("", False)]
)
def test_a_client_may_say_so_in_the_query(query: str, is_wanted: bool) -> None:
    assert wants_async(Request({"type": "http", "headers": [], "query_string": query.encode()})) is is_wanted


@pytest.mark.parametrize("query", ["async=null", "async=", "async=2"])
def test_what_is_neither_yes_nor_no_is_refused(query: str) -> None:
    with pytest.raises(InvalidRequest, match="async: must be true or false, got"):
        wants_async(Request({"type": "http", "headers": [], "query_string": query.encode()}))


@pytest.mark.slow
async def test_a_request_has_a_deadline_of_its_own(service: Service, worker_log: Path) -> None:
    late = await _ask_within(service, "stream 100000", "300")
    assert_error(late, 504, "deadline_exceeded")
    await eventually(lambda: log_lines(worker_log, "cancel", late.json()["error"]["job_id"]))
    assert (await _ask_within(service, "echo x", "30000")).status_code == 200
    assert (await _ask_within(service, "echo x", "999999999")).status_code == 200, "the service's own is sooner"
    assert await service.accounting() == {"done": 2, "cancelled": 1}


async def test_a_deadline_that_is_over_before_the_queue_ends_its_job(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = service.state.images.pixels

    async def slow(*arguments: Any) -> Any:
        await asyncio.sleep(0.1)
        return await decoded(*arguments)

    monkeypatch.setattr(service.state.images, "pixels", slow)
    late = await _ask_within(service, "echo x", "50", image=encoded())
    assert_error(late, 504, "deadline_exceeded")
    assert await service.accounting() == {"failed": 1}


@pytest.mark.slow
@pytest.mark.parametrize("sent", ["0", "-5", "1.5", "soon", "1" * 10, ""])
async def test_what_is_no_deadline(service: Service, sent: str) -> None:
    error = assert_error(await _ask_within(service, "echo x", sent), 400, "invalid_request", "X-Deadline-Ms")
    assert f"got {sent!r}" in error["message"]
    assert await service.accounting() == {}


async def _ask_within(service: Service, question: str, deadline_ms: str, **fields: object) -> httpx.Response:
    body = {"question": question, **fields}
    return await service.client.post("/chat", json=body, headers={"X-Deadline-Ms": deadline_ms})


async def test_what_breaks_before_the_queue_ends_its_job_and_tells_its_id(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def breaks(*_: object) -> None:
        raise RuntimeError("secret inside")

    monkeypatch.setattr(service.state.images, "pixels", breaks)
    error = assert_error(await service.ask("echo x", image=encoded()), 500, "internal_error")
    assert "secret" not in str(error)
    job = (await service.client.get(f"/jobs/{error['job_id']}")).json()
    assert (job["state"], job["error"]["code"]) == ("failed", "internal_error")
    assert "secret" not in str(job)
    assert await service.accounting() == {"failed": 1}


@pytest.mark.waiting
async def test_a_slot_is_renewed_while_its_picture_is_decoded(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fetching, decoding and judging together may take longer than the lease."""
    async with serving(settings.model_copy(update={"slot_lease_s": 0.5, "sweep_s": 0.1})) as service:
        await service.ready()
        decoded = service.state.images.pixels

        async def slow(*arguments: Any) -> Any:
            await asyncio.sleep(1.5)
            return await decoded(*arguments)

        monkeypatch.setattr(service.state.images, "pixels", slow)
        assert (await service.ask("echo x", image=encoded())).status_code == 200
        assert await service.accounting() == {"done": 1}
