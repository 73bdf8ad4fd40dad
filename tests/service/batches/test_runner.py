"""The work on batches, on a real server: what is asked again and what is not, turns, ends, and what breaks."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis.asyncio

from service.batches import runner as runner_module
from service.batches.batch_store import Batch, BatchRequest, BatchStore
from service.batches.files import Files
from service.batches.lines import LineAnswer, RequestLine
from service.batches.runner import BatchRunner
from service.core.errors import InvalidApiKey
from service.core.metrics import Metrics
from service.core.settings import Settings
from service.core.tasks import TaskSupervisor
from service.redis.connection import RedisServers
from tests.service.tree import eventually

Script = Callable[[str, int], LineAnswer | Exception | None]


def ok(custom_id: str) -> LineAnswer:
    return LineAnswer(200, "req", json.dumps({"of": custom_id}).encode())


def error(status: int, code: str) -> LineAnswer:
    return LineAnswer(status, "req", json.dumps({"error": {"code": code}}).encode(), code)


class ScriptedService:
    """Answers a line by its id and how often it came; where the script has nothing, once `free` is set."""

    def __init__(self, script: Script) -> None:
        self.is_closing = False
        self.script = script
        self.keys: defaultdict[str, list[str]] = defaultdict(list)  # by custom_id
        self.withdrawn: list[str] = []
        self.free = asyncio.Event()
        self.num_at_once = self.most_at_once = 0

    async def send(self, batch: BatchRequest, line: RequestLine, key: str) -> LineAnswer:
        self.keys[line.custom_id].append(key)
        self.num_at_once += 1
        self.most_at_once = max(self.most_at_once, self.num_at_once)
        try:
            answer = self.script(line.custom_id, len(self.keys[line.custom_id]))
            if answer is None:
                await self.free.wait()
                answer = error(499, "cancelled") if key in self.withdrawn else ok(line.custom_id)
            await asyncio.sleep(0.05)  # so that several are under way, on a busy machine too
        finally:
            self.num_at_once -= 1
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def withdraw(self, batch: BatchRequest, key: str) -> None:
        self.withdrawn.append(key)
        self.free.set()


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "_FIRST_WAIT_S", 0.01)


@asynccontextmanager
async def running(
    servers: RedisServers, settings: Settings, service: ScriptedService, **changed: object
) -> AsyncIterator[Metrics]:
    settings = settings.model_copy(update={"sweep_s": 0.02, **changed})
    files, batches, metrics = Files(servers, settings), BatchStore(servers, settings), Metrics("api")
    tasks = TaskSupervisor("api", metrics)
    runner = BatchRunner(batches, files, service, settings, metrics, tasks)
    runner.start()
    try:
        yield metrics
    finally:
        await runner.close()
        await tasks.close()
        await files.close()
        await batches.close()


async def create(files: Files, batches: BatchStore, num_lines: int, tenant: str = "t") -> Batch:
    lines = [
        {"custom_id": f"line{number}", "method": "POST", "url": "/chat", "body": {}} for number in range(num_lines)
    ]
    content = b"\n".join(json.dumps(line).encode() + b"\n" for line in lines)  # empty lines between them
    kept = await files.put(tenant, "in", "batch", content, 3600)
    return await batches.create(tenant, "", "/chat", kept.id, num_lines, [])


async def ended(batches: BatchStore, batch: Batch) -> Batch:
    async def has_ended() -> bool:
        now = await batches.get(batch.request.tenant, batch.request.id)
        return now.status not in ("in_progress", "cancelling")

    await eventually(has_ended)
    return await batches.get(batch.request.tenant, batch.request.id)


async def results(files: Files, batch: Batch) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of the output file and of the error file, by custom_id; each is there once."""
    told = []
    for file_id in (batch.request.output_file_id, batch.request.error_file_id):
        lines = [json.loads(line) for line in await files.content(batch.request.tenant, file_id)]
        told.append({line["custom_id"]: line for line in lines})
        assert len(told[-1]) == len(lines)
    return told[0], told[1]


@pytest.mark.slow
async def test_every_line_is_answered_a_few_at_once(
    servers: RedisServers, settings: Settings, files: Files, batches: BatchStore
) -> None:
    service = ScriptedService(lambda name, _: error(400, "invalid_request") if name == "line3" else ok(name))
    batch = await create(files, batches, 20)
    async with running(servers, settings, service, batch_jobs=3) as metrics:
        done = await ended(batches, batch)
    assert (done.status, done.completed, done.failed) == ("completed", 19, 1)
    answered, failed = await results(files, done)
    assert set(answered) == {f"line{number}" for number in range(20)} - {"line3"} and set(failed) == {"line3"}
    assert (
        answered["line0"]["response"]["body"] == {"of": "line0"} and failed["line3"]["response"]["status_code"] == 400
    )
    assert len({one["id"] for one in answered.values()}) == 19 and service.most_at_once == 3
    assert metrics.registry.get_sample_value("viscpm_batch_lines_total", {"outcome": "completed"}) == 19


async def test_what_says_later_is_asked_again_with_the_same_key(
    servers: RedisServers, settings: Settings, files: Files, batches: BatchStore
) -> None:
    later = [error(429, "queue_full"), error(409, "idempotency_key_in_use"), error(503, "no_worker")]
    service = ScriptedService(lambda name, time: later[time - 1] if time <= len(later) else ok(name))
    batch = await create(files, batches, 2)
    async with running(servers, settings, service):
        done = await ended(batches, batch)
    assert (done.completed, done.failed) == (2, 0)
    assert [len(keys) for keys in service.keys.values()] == [4, 4]
    assert [len(set(keys)) for keys in service.keys.values()] == [1, 1] and len(service.keys) == 2


async def test_a_line_that_misses_its_deadline_thrice_has_failed(
    servers: RedisServers, settings: Settings, files: Files, batches: BatchStore
) -> None:
    service = ScriptedService(
        lambda name, time: ok(name) if time == 3 and name == "line1" else error(504, "deadline_exceeded")
    )
    batch = await create(files, batches, 2)
    async with running(servers, settings, service):
        done = await ended(batches, batch)
    assert (done.completed, done.failed, len(service.keys["line0"])) == (1, 1, 3)


@pytest.mark.slow
async def test_a_cancelled_batch_begins_nothing_and_tells_of_every_line(
    servers: RedisServers, settings: Settings, files: Files, batches: BatchStore
) -> None:
    service = ScriptedService(lambda name, _: ok(name) if name == "line0" else None)
    batch = await create(files, batches, 10)
    async with running(servers, settings, service, batch_jobs=2):
        await eventually(lambda: len(service.keys) == 3)
        await batches.cancel("t", batch.request.id)
        done = await ended(batches, batch)
    assert (done.status, done.completed, done.failed, len(service.keys)) == ("cancelled", 1, 9, 3)
    answered, failed = await results(files, done)
    assert set(answered) == {"line0"} and {one["error"]["code"] for one in failed.values()} == {"batch_cancelled"}


@pytest.mark.slow
async def test_an_expired_batch_ends_though_its_lines_are_never_answered(
    servers: RedisServers, settings: Settings, files: Files, batches: BatchStore, client: "redis.asyncio.Redis"
) -> None:
    service = ScriptedService(lambda *_: error(503, "no_worker"))
    batch = await create(files, batches, 3)
    async with running(servers, settings, service):
        await eventually(lambda: len(service.keys) == 3)
        await client.hset(f"{{viscpm}}:batch:t:{batch.request.id}", "expires_ms", "1")
        done = await ended(batches, batch)
    _, failed = await results(files, done)
    assert done.status == "expired" and {one["error"]["code"] for one in failed.values()} == {"batch_expired"}


@pytest.mark.slow
async def test_batches_take_turns(servers: RedisServers, settings: Settings, files: Files, batches: BatchStore) -> None:
    """One whose lines are never taken holds up no other."""
    service = ScriptedService(lambda name, _: error(429, "rate_limit_exceeded") if name == "line1" else ok(name))
    stuck, other = await create(files, batches, 2), await create(files, batches, 1, "u")
    async with running(servers, settings, service, lease_s=0.3):
        assert (await ended(batches, other)).completed == 1
        assert (await batches.get("t", stuck.request.id)).status == "in_progress"
        service.script = lambda name, _: ok(name)
        assert (await ended(batches, stuck)).completed == 2
    assert len(service.keys["line0"]) == 2, "one of each batch: none was asked again in the second turn"


async def test_what_one_process_leaves_another_goes_on_with_at_once(
    servers: RedisServers, settings: Settings, files: Files, batches: BatchStore
) -> None:
    first = ScriptedService(lambda name, _: ok(name) if name == "line0" else None)
    batch = await create(files, batches, 3)
    async with running(servers, settings, first, lease_s=60.0):
        await eventually(lambda: len(first.keys) == 3)

        async def is_recorded() -> bool:
            return (await batches.get("t", batch.request.id)).completed == 1

        await eventually(is_recorded)
    second = ScriptedService(lambda name, _: ok(name))
    async with running(servers, settings, second):
        done = await ended(batches, batch)
    assert done.completed == 3 and set(second.keys) == {"line1", "line2"}
    assert second.keys["line1"][0] == first.keys["line1"][0], "the Idempotency-Key of the line"


async def test_a_process_that_is_shutting_down_leaves_its_batch(
    servers: RedisServers, settings: Settings, files: Files, batches: BatchStore
) -> None:
    """What is under way comes to its end."""
    service = ScriptedService(lambda *_: None)
    batch = await create(files, batches, 9)
    async with running(servers, settings, service, batch_jobs=2, lease_s=60.0):
        await eventually(lambda: len(service.keys) == 2)
        service.is_closing = True
        service.free.set()

        async def is_left() -> bool:
            held = await batches.take()
            return held is not None and held.request == batch.request

        await eventually(is_left)
    assert (await batches.get("t", batch.request.id)).completed == 2 and len(service.keys) == 2


@pytest.mark.parametrize(
    ("answer", "code"),
    [(InvalidApiKey("revoked"), "invalid_api_key"), (ValueError("a bug"), "internal_error")],
    ids=["no key", "a bug"],
)
async def test_a_batch_that_cannot_go_on_has_failed_and_the_next_one_begins(
    servers: RedisServers, settings: Settings, files: Files, batches: BatchStore, answer: Exception, code: str
) -> None:
    service = ScriptedService(lambda *_: answer)
    batch = await create(files, batches, 3)
    async with running(servers, settings, service) as metrics:
        done = await ended(batches, batch)
        assert (done.status, [one.code for one in done.errors]) == ("failed", [code])
        service.script = lambda name, _: ok(name)
        assert (await ended(batches, await create(files, batches, 1))).status == "completed"
    assert metrics.registry.get_sample_value("viscpm_task_restarts_total", {"task": "batches"}) == 0


async def test_without_room_for_results_the_batch_has_failed(
    servers: RedisServers, settings: Settings, files: Files, batches: BatchStore
) -> None:
    service = ScriptedService(lambda name, _: LineAnswer(200, "req", b'"' + b"x" * 3000 + b'"'))
    batch = await create(files, batches, 3)
    async with running(servers, settings, service, batch_jobs=1, tenant_file_bytes=6000):
        done = await ended(batches, batch)
    assert (done.status, done.completed, [one.code for one in done.errors]) == ("failed", 1, ["storage_full"])


async def test_a_process_may_leave_batches_to_others(
    servers: RedisServers, settings: Settings, files: Files, batches: BatchStore
) -> None:
    service = ScriptedService(lambda name, _: ok(name))
    await create(files, batches, 1)
    async with running(servers, settings, service, batch_jobs=0):
        await asyncio.sleep(0.2)
    assert not service.keys and await batches.take() is not None
