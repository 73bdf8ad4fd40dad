"""The last worker of a model is gone with requests in hand: they end in time, whoever queued them (FAULTS 39)."""

import asyncio
import time
from collections.abc import Callable

import httpx
import pytest

from service.core.settings import Settings
from service.process.embedded_redis import EmbeddedServer
from tests.service.tree import WorkerProcess, api_side, eventually, log_lines, quick_settings
from tests.service.web import Service, assert_error, serving, sse_events

pytestmark = pytest.mark.own_process

NO_WORKER_S = 2.0
# From the worker's last heartbeat; a heartbeat's interval before its death, a look at them, a sweep, and their ends
LATEST_S = NO_WORKER_S + 2.0


@pytest.fixture
def settings(own_server: EmbeddedServer) -> Settings:
    return quick_settings(own_server.url, no_worker_s=NO_WORKER_S, models=("chat",), chat_max_jobs=2)


async def test_waiting_streaming_and_background_requests_end_when_the_last_worker_was_killed(
    settings: Settings, start_worker: Callable[..., WorkerProcess], engine_log: object
) -> None:
    worker = start_worker(step_s=0.02)
    async with serving(settings) as service:
        await service.ready()
        headers = {"Prefer": "respond-async"}
        asked = {"question": "stream 100000"}
        jobs = [(await service.client.post("/chat", json=asked, headers=headers)).json()["id"] for _ in range(2)]
        waiting = [asyncio.create_task(service.ask("stream 100000")) for _ in range(2)]
        streaming = [asyncio.create_task(service.ask("stream 100000", stream=True)) for _ in range(2)]
        await eventually(lambda: log_lines(engine_log, "step"))  # type: ignore[arg-type]
        await eventually(lambda: _has_slots(service, 6))
        worker.kill()
        killed_s = time.monotonic()
        answers = await asyncio.gather(*waiting)
        streams = await asyncio.gather(*streaming)
        waited_s = time.monotonic() - killed_s
        assert NO_WORKER_S - settings.heartbeat_s - 0.3 < waited_s < LATEST_S, f"they ended after {waited_s:.2f} s"
        for answer in answers:
            error = assert_error(answer, 503, "no_worker")
            assert int(answer.headers["retry-after"]) >= 1
            assert error["message"].endswith("no chat worker is alive any more, ask again")
        for stream in streams:
            last, done = sse_events(stream.text)[-2:]
            assert last[1]["error"]["code"] == "no_worker" and done[1] == "[DONE]"
        for job_id in jobs:
            job = (await service.client.get(f"/jobs/{job_id}")).json()
            assert (job["state"], job["error"]["code"]) == ("failed", "no_worker")
        _refused_at_once(await service.ask("echo too late"))
        assert await service.accounting() == {"failed": 6}
        start_worker()
        await service.ready()
        assert (await service.ask("echo back")).json()["answer"] == "back"


async def test_what_a_process_that_is_gone_had_queued_ends_too(
    settings: Settings, start_worker: Callable[..., WorkerProcess], engine_log: object
) -> None:
    worker = start_worker()
    async with api_side(settings) as gone:
        await gone.ready(worker)
        running = await gone.start("stream 100000")
        await eventually(lambda: log_lines(engine_log, "step", running))  # type: ignore[arg-type]
        worker.kill()
        queued = [await gone.start("echo never") for _ in range(3)]
    started_s = time.monotonic()
    async with serving(settings) as service:

        async def states() -> set[tuple[str, str]]:
            jobs = [(await service.state.queue.status(job_id)) for job_id in (running, *queued)]
            return {(job.state, job.ending.code if job.ending else "") for job in jobs}

        await eventually(lambda: _is({("failed", "no_worker")}, states), 3 * LATEST_S)
        assert time.monotonic() - started_s < LATEST_S + settings.heartbeat_expiry_s
        assert await service.accounting() == {"failed": 4}


async def test_jobs_wait_for_a_worker_that_is_loading(
    settings: Settings, start_worker: Callable[..., WorkerProcess]
) -> None:
    first = start_worker()
    async with serving(settings) as service:
        await service.ready()
        slow = settings.model_copy(update={"chat_engine": "tests.service.engines:create_slowly"})
        start_worker(slow)
        await eventually(lambda: _num_workers_is(service, 2), 30.0)
        first.kill()
        waiting = asyncio.create_task(service.ask("echo patience"))
        await eventually(lambda: _has_slots(service, 1))
        await asyncio.sleep(settings.heartbeat_expiry_s + 2 * NO_WORKER_S)
        assert not waiting.done(), "a worker that loads says so, and is alive"
        start_worker()
        assert (await waiting).json()["answer"] == "patience"
        assert await service.accounting() == {"done": 1}


def _refused_at_once(answer: httpx.Response) -> None:
    assert_error(answer, 503, "no_worker")
    assert answer.elapsed.total_seconds() < 0.5


async def _has_slots(service: Service, count: int) -> bool:
    return bool(await service.redis.zcard("{viscpm}:slots:chat") == count)


async def _num_workers_is(service: Service, count: int) -> bool:
    return len(service.state.registry.workers("chat")) == count


async def _is(expected: object, found: Callable[[], object]) -> bool:
    return await found() == expected  # type: ignore[misc]
