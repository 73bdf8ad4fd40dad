"""Jobs on their way through a real worker: refused, failing, cancelled, and with pictures to be brought."""

import asyncio
import signal
from collections import Counter
from pathlib import Path

import pytest

from service.core.settings import Settings
from service.queue.heartbeat import last_model
from service.redis.keys import Keys
from service.worker import dispatcher
from service.worker.worker import Worker
from tests.service.tree import ApiSide, StartWorker, eventually, log_lines, quick_settings, scrape

pytestmark = pytest.mark.own_process

PICTURE = {"image_key": "tenant:digest", "image_size_px": 2}


async def test_rejected_and_raising_jobs_fail_alone(api: ApiSide, start_worker: StartWorker) -> None:
    await api.ready(start_worker())
    rejected, raising = await asyncio.gather(api.request("reject"), api.request("raise"))
    assert rejected.ending is not None and (rejected.ending.state, rejected.ending.code) == (
        "refused",
        "context_length_exceeded",
    )
    assert raising.ending is not None and raising.ending.state == "failed" and raising.ending.code == "job_failed"
    assert "as told" in raising.ending.message
    assert (await api.request("echo still here")).answer == "still here"
    await api.check_accounting(accepted=3, done=1, refused=1, failed=1)


async def test_two_workers_share_a_burst_that_one_could_take_whole(
    redis_url: str, api: ApiSide, start_worker: StartWorker, engine_log: Path
) -> None:
    settings = quick_settings(redis_url, chat_max_jobs=64)
    await api.ready(*(start_worker(settings, step_s=0.01) for _ in range(2)))
    outcomes = await asyncio.gather(*(api.request("stream 30") for _ in range(40)))
    assert all(one.answer for one in outcomes)
    taken_by = Counter(pid for pid, *_ in log_lines(engine_log, "admit"))
    assert len(taken_by) == 2 and min(taken_by.values()) >= 8, taken_by


async def test_jobs_that_come_one_by_one_are_asked_for_once_each(
    api: ApiSide, settings: Settings, engine_log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISCPM_TEST_LOG", str(engine_log))
    monkeypatch.setenv("VISCPM_TEST_STEP_S", "0.001")
    for limit in ("_QUICK_S", "_BEGIN_S", "_QUEUED_MS"):
        monkeypatch.setattr(dispatcher, limit, 1000)  # however busy this machine is
    running = asyncio.create_task(Worker("chat", settings, "here", "", api.servers).run())
    assert (await api.request("echo first")).answer == "first"
    await api.redis.config_resetstat()
    began_s = asyncio.get_running_loop().time()
    for number in range(20):
        assert (await api.request(f"echo {number}")).answer == str(number)
    asked = (await api.redis.info("commandstats"))["cmdstat_xreadgroup"]["calls"]
    num_waits = (asyncio.get_running_loop().time() - began_s) / 0.5  # that found nothing, at most
    assert asked <= 20 + num_waits + 1
    signal.raise_signal(signal.SIGTERM)
    assert await running == (0, True)
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().remove_signal_handler(signal_number)


async def test_out_of_memory_in_company_is_tried_again_alone(
    api: ApiSide, start_worker: StartWorker, engine_log: Path
) -> None:
    await api.ready(start_worker(step_s=0.02))
    outcomes = await asyncio.gather(api.request("stream 30"), api.request("oom"), api.request("stream 20"))
    assert [one.ending.state for one in outcomes if one.ending] == ["done"] * 3
    assert outcomes[0].streamed == outcomes[0].answer == "".join(f"w{i} " for i in range(30))
    assert len(log_lines(engine_log, "load")) == 1
    await api.check_accounting(accepted=3, done=3)


async def test_cancelled_while_queued_never_starts(api: ApiSide, start_worker: StartWorker, engine_log: Path) -> None:
    """FAULTS 3."""
    job_id = await api.start("echo never")
    assert await api.producer.cancel(job_id, "client_gone")
    assert not await api.producer.cancel(job_id, "client_gone")
    await api.ready(start_worker())
    assert (await api.request("echo later")).answer == "later"
    assert log_lines(engine_log, "admit", job_id) == []
    assert b'viscpm_jobs_cancelled_total{model="chat",where="queued"} 1.0' in api.metrics.render()
    await api.check_accounting(accepted=2, done=1, cancelled=1)


async def test_cancelled_while_running_stops_within_a_step(
    api: ApiSide, start_worker: StartWorker, engine_log: Path
) -> None:
    """FAULTS 5."""
    await api.ready(start_worker(step_s=0.1))
    job_id = await api.start("stream 1000")
    other = asyncio.create_task(api.request("stream 10"))
    await eventually(lambda: len(log_lines(engine_log, "step", job_id)) >= 3)
    steps = len(log_lines(engine_log, "step", job_id))
    assert await api.producer.cancel(job_id, "client_gone")
    assert (await other).answer == "".join(f"w{i} " for i in range(10))
    assert len(log_lines(engine_log, "step", job_id)) <= steps + 2
    assert len(log_lines(engine_log, "cancel", job_id)) == 1
    assert b'viscpm_jobs_cancelled_total{model="chat",where="running"} 1.0' in api.metrics.render()
    await api.check_accounting(accepted=2, done=1, cancelled=1)


async def test_image_embeddings_are_shared_between_workers(api: ApiSide, start_worker: StartWorker) -> None:
    first = start_worker()
    await api.ready(first)
    computed = await api.request("echo a", pixels=b"rgb" * 4, **PICTURE)
    assert not computed.events[-1].result.vision_cached  # type: ignore[union-attr]
    await eventually(lambda: api.redis.exists(Keys("viscpm").vision_cache[0]))  # stored beside the answer
    first.kill()
    await api.ready(start_worker())
    again = await api.request("echo b", **PICTURE)  # as a later turn: nobody needs the pixels
    assert again.events[-1].result.vision_cached  # type: ignore[union-attr]
    assert not any("state of" in repr(event) for event in again.events)
    [survivor] = [one for one in await api.workers() if one.info.worker_id != first.id]
    page = await scrape(survivor.info.metrics_url)
    assert 'viscpm_vision_cache_hits_total{model="chat"} 1.0' in page
    assert 'viscpm_vision_tower_runs_total{model="chat"} 0.0' in page
    model = await last_model(api.connection, Keys("viscpm"), "chat")
    assert model is not None and model.name == "scripted"


async def test_a_later_turn_reads_its_conversations_pixels_where_the_image_is_not_cached(
    api: ApiSide, start_worker: StartWorker
) -> None:
    await api.redis.set("{viscpm}:conversation:t:1:pixels", b"rgb" * 4)
    await api.ready(start_worker())
    turn = await api.request("echo a", pixels_key="{viscpm}:conversation:t:1:pixels", **PICTURE)
    assert turn.answer == "a" and not turn.events[-1].result.vision_cached  # type: ignore[union-attr]


async def test_a_turn_whose_picture_is_gone_fails_and_the_worker_goes_on(
    api: ApiSide, start_worker: StartWorker
) -> None:
    await api.ready(start_worker())
    gone = await api.request("echo a", pixels_key="{viscpm}:conversation:t:1:pixels", **PICTURE)
    assert gone.ending is not None and (gone.ending.state, gone.ending.code) == ("refused", "conversation_not_found")
    assert (await api.request("echo b")).answer == "b"
    await api.check_accounting(accepted=2, done=1, refused=1)
