"""Two worker processes that have one device in turn: waits, kills and hangs."""

import asyncio
import time
from pathlib import Path

import pytest

from models.engines.turns.device_queue import places
from service.core.settings import Settings
from service.worker.worker import EXIT_STALLED
from tests.service.tree import ApiSide, StartWorker, eventually, quick_settings, scrape
from tests.service.turn_takers import WEIGHTS_BYTES

pytestmark = pytest.mark.process_tree

LEASE_S = 1.0  # as quick_settings has it


@pytest.fixture
def locks(tmp_path: Path) -> Path:
    return tmp_path / "locks"


@pytest.fixture
def in_turns(redis_url: str, locks: Path) -> dict[str, object]:
    """A turn that outlasts every test, on a device that has room for one."""
    engines = {f"{kind}_engine": "tests.service.turn_takers:create_engine" for kind in ("chat", "paint")}
    shared = {"device_sharing": "turns", "device_lock_dir": str(locks), "device_turn_s": 3600.0}
    return {"redis_url": redis_url, "device_bytes": WEIGHTS_BYTES, **engines, **shared}


@pytest.fixture
def settings(in_turns: dict[str, object]) -> Settings:
    return quick_settings(**in_turns)  # type: ignore[arg-type]


def held(locks: Path) -> dict[str, int]:
    """What each worker has on the device, by its kind."""
    return {place.kind: place.held_bytes for place in places(locks, "cpu")}


async def turn_of(api: ApiSide, worker_id: str) -> str:
    return next((one.info.device_turn for one in await api.workers() if one.info.worker_id == worker_id), "")


async def test_a_job_waits_for_its_turn_and_stays_its_workers(
    api: ApiSide, start_worker: StartWorker, locks: Path
) -> None:
    """Longer than a lease and than a step may take; then it is done, in its first delivery."""
    paint = start_worker(kind="paint", step_s=0.05)
    await api.ready(paint, within_s=60)
    painting = await api.start("stream 10000", kind="paint")
    await eventually(lambda: held(locks) == {"paint": WEIGHTS_BYTES})
    chat = start_worker(kind="chat")

    async def is_waiting_to_load() -> bool:
        return await turn_of(api, chat.id) == "waiting"

    await eventually(is_waiting_to_load, 60)
    [info] = [one.info for one in await api.workers() if one.info.worker_id == chat.id]
    assert info.state == "loading" and info.model is None
    await api.producer.cancel(painting, "cancelled")
    await api.ready(chat, within_s=60)
    painting = await api.start("stream 10000", kind="paint")

    # By the lock, for a heartbeat may still tell of the first painting
    await eventually(lambda: held(locks) == {"paint": WEIGHTS_BYTES, "chat": 0})
    question = asyncio.create_task(api.request("echo yes"))
    await asyncio.sleep(3 * LEASE_S)
    assert not question.done() and held(locks) == {"paint": WEIGHTS_BYTES, "chat": 0}
    assert await turn_of(api, chat.id) == "waiting"
    assert "viscpm_device_waiting{" in await page(api, chat.id)
    await api.producer.cancel(painting, "cancelled")
    outcome = await asyncio.wait_for(question, 10)
    assert outcome.answer == "yes"
    record = await api.producer.record(outcome.job_id)
    assert record is not None and record.deliveries == 1
    text = await page(api, chat.id)
    assert 'viscpm_device_turns_total{model="chat"} 2.0' in text, "one to load"
    assert 'viscpm_device_held{model="chat"} 1.0' in text
    assert float(value_of(text, 'viscpm_device_wait_seconds_sum{model="chat"}')) > 3 * LEASE_S
    assert float(value_of(text, 'viscpm_device_transfer_seconds_count{model="chat"}')) == 1
    await api.check_accounting(cancelled=2, done=1)


async def test_what_is_cancelled_while_it_waits_ends_at_once(
    api: ApiSide, start_worker: StartWorker, locks: Path
) -> None:
    chat, paint = start_worker(kind="chat"), start_worker(kind="paint", step_s=0.05)
    await api.ready(chat, paint, within_s=60)
    painting = await api.start("stream 10000", kind="paint")
    await eventually(lambda: held(locks) == {"paint": WEIGHTS_BYTES, "chat": 0})
    question = await api.start("echo yes")

    async def has_in_hand() -> int:
        return next(one.info.jobs for one in await api.workers() if one.info.worker_id == chat.id)

    await eventually(has_in_hand)
    began_s = time.monotonic()
    await api.producer.cancel(question, "cancelled")

    async def has_let_go() -> bool:
        return not await has_in_hand() and await turn_of(api, chat.id) == "away"

    await eventually(has_let_go)
    assert time.monotonic() - began_s < 2, "a heartbeat tells of it"
    assert await api.state(question) == "cancelled"
    await api.producer.cancel(painting, "cancelled")


async def test_a_killed_holder_gives_way(api: ApiSide, start_worker: StartWorker, locks: Path) -> None:
    chat, paint = start_worker(kind="chat"), start_worker(kind="paint", step_s=0.05)
    await api.ready(chat, paint, within_s=60)
    painting = await api.start("stream 10000", kind="paint")
    await eventually(lambda: held(locks) == {"paint": WEIGHTS_BYTES, "chat": 0})
    question = asyncio.create_task(api.request("echo yes"))
    await asyncio.sleep(0.5)
    assert not question.done()
    began_s = time.monotonic()
    paint.kill()
    assert (await asyncio.wait_for(question, 5)).answer == "yes"
    assert time.monotonic() - began_s < 3
    assert held(locks) == {"chat": WEIGHTS_BYTES}, "the dead one is forgotten"
    await api.producer.cancel(painting, "cancelled")


async def test_a_holder_that_hangs_is_ended_and_one_that_waits_is_not(
    api: ApiSide, start_worker: StartWorker, locks: Path
) -> None:
    chat, paint = start_worker(kind="chat"), start_worker(kind="paint")
    await api.ready(chat, paint, within_s=60)
    await api.start("hang 600", kind="paint")
    await eventually(lambda: held(locks) == {"paint": WEIGHTS_BYTES, "chat": 0})
    question = asyncio.create_task(api.request("echo yes"))
    assert await paint.exit_code() == EXIT_STALLED
    assert (await asyncio.wait_for(question, 10)).answer == "yes"
    assert chat.process.poll() is None


async def test_an_idle_worker_lets_the_device_go(
    api: ApiSide, start_worker: StartWorker, in_turns: dict[str, object], locks: Path
) -> None:
    chat = start_worker(quick_settings(**in_turns, idle_unload_s=1.0))  # type: ignore[arg-type]
    await api.ready(chat, within_s=60)
    assert (await api.request("echo yes")).answer == "yes"
    ended_s = time.monotonic()
    assert held(locks) == {"chat": WEIGHTS_BYTES}
    await eventually(lambda: held(locks) == {"chat": 0})
    assert 0.9 < time.monotonic() - ended_s < 4

    async def is_away() -> bool:
        return await turn_of(api, chat.id) == "away"

    await eventually(is_away)
    assert (await api.request("echo again")).answer == "again"
    assert held(locks) == {"chat": WEIGHTS_BYTES}


async def test_a_device_of_its_own_is_told_too(api: ApiSide, start_worker: StartWorker, redis_url: str) -> None:
    worker = start_worker(quick_settings(redis_url))
    await api.ready(worker)
    assert await turn_of(api, worker.id) == "own"
    assert 'viscpm_device_held{model="chat"} 0.0' in await page(api, worker.id)


async def page(api: ApiSide, worker_id: str) -> str:
    [worker] = [one for one in await api.workers() if one.info.worker_id == worker_id]
    return await scrape(worker.info.metrics_url)


def value_of(text: str, series: str) -> str:
    return next(line.removeprefix(series) for line in text.splitlines() if line.startswith(series))
