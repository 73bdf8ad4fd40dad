"""The worker as a real process: answers, faults and ends."""

import asyncio
import signal
import time
from pathlib import Path

import pytest

from models.jobs import Delta, Generated, PaintResult, Progress, encode
from service.core.cpu_quota import threads_beside
from tests.service.engines import PREVIEW
from tests.service.tree import ApiSide, StartWorker, eventually, log_lines, make_job, quick_settings, scrape

pytestmark = pytest.mark.own_process


async def test_answers_and_streams(api: ApiSide, start_worker: StartWorker) -> None:
    await api.ready(start_worker())
    outcome = await api.request("echo 你好")
    assert outcome.answer == "你好"
    assert outcome.ending is not None and outcome.ending.state == "done" and outcome.ending.body == b"answer"

    streamed = await api.request("stream 20")
    assert [event.offset_chars for event in streamed.events if isinstance(event, Delta)][:3] == [0, 3, 6]
    assert streamed.streamed == streamed.answer
    await api.check_accounting(accepted=2, done=2)


async def test_paint_brings_large_events_in_order(api: ApiSide, start_worker: StartWorker) -> None:
    await api.ready(start_worker(kind="paint"))
    outcome = await api.request("paint 5", kind="paint")
    progress = [event for event in outcome.events if isinstance(event, Progress)]
    assert [event.step for event in progress] == [1, 2, 3, 4, 5]
    assert all(event.preview_png == PREVIEW for event in progress)
    last = outcome.events[-1]
    assert isinstance(last, Generated) and isinstance(last.result, PaintResult)
    assert len(last.result.candidates[0].png) == 300_000
    await api.check_accounting(accepted=1, done=1)


async def test_killed_worker_loses_nothing(api: ApiSide, start_worker: StartWorker, engine_log: Path) -> None:
    """FAULTS 6: another worker takes over after the lease; the text comes once."""
    doomed = start_worker(step_s=0.05)
    await api.ready(doomed)
    request = asyncio.create_task(api.request("stream 20", stream=True))
    await eventually(lambda: len(log_lines(engine_log, "step")) >= 5)
    doomed.kill()
    await api.ready(start_worker(step_s=0.01))
    outcome = await request
    assert outcome.streamed == outcome.answer == "".join(f"w{i} " for i in range(20))
    assert outcome.ending is not None and outcome.ending.state == "done"
    record = await api.producer.record(outcome.job_id)
    assert record is not None and record.deliveries == 2
    [survivor] = [one for one in await api.workers() if one.info.worker_id != doomed.id]
    assert 'viscpm_jobs_recovered_total{model="chat"} 1.0' in await scrape(survivor.info.metrics_url)
    await api.check_accounting(accepted=1, done=1)


async def test_replacement_takes_over_at_once(redis_url: str, api: ApiSide, start_worker: StartWorker) -> None:
    """A worker that is told its predecessor does not wait for the lease."""
    patient = quick_settings(redis_url, lease_s=600.0, lease_renew_s=100.0)
    doomed = start_worker(patient, step_s=0.1)
    await api.ready(doomed)
    request = asyncio.create_task(api.request("stream 30"))
    await eventually(lambda: has_in_hand(api, 1))
    doomed.kill()
    start_worker(patient, predecessor=doomed.id)
    outcome = await asyncio.wait_for(request, 20)
    assert outcome.streamed == outcome.answer == "".join(f"w{i} " for i in range(30))
    consumers = await api.redis.xinfo_consumers("{viscpm}:jobs:chat", "workers")
    assert doomed.id.encode() not in [consumer["name"] for consumer in consumers]
    await api.check_accounting(accepted=1, done=1)


async def test_poison_job_is_dead_lettered_and_its_company_lives(
    api: ApiSide, start_worker: StartWorker, engine_log: Path
) -> None:
    """FAULTS 7: three deliveries, the last one without company."""
    requests = [asyncio.create_task(api.request(text)) for text in ("die", "stream 3", "stream 4")]
    await eventually(lambda: has_length(api, 3))
    for _ in range(3):
        worker = start_worker(step_s=0.01)
        await worker.exit_code(20)
    await api.ready(start_worker(step_s=0.01))
    poison, *company = await asyncio.gather(*requests)
    assert poison.ending is not None and poison.ending.state == "failed" and poison.ending.code == "job_failed"
    assert poison.job_id in poison.ending.message
    assert [one.ending.state for one in company if one.ending] == ["done", "done"]
    assert len(log_lines(engine_log, "admit", poison.job_id)) == 3
    assert await api.redis.xlen("{viscpm}:dead:chat") == 1
    await api.check_accounting(accepted=3, done=2, failed=1)


async def test_frozen_worker_is_fenced_off(api: ApiSide, start_worker: StartWorker, engine_log: Path) -> None:
    """FAULTS 8: stale heartbeat, lease taken over, the late result ignored."""
    frozen = start_worker(step_s=0.05)
    await api.ready(frozen)
    request = asyncio.create_task(api.request("stream 20"))
    await eventually(lambda: len(log_lines(engine_log, "step")) >= 3)
    frozen.signal(signal.SIGSTOP)
    try:
        await eventually(lambda: is_without_workers(api), 5)
        await api.ready(start_worker(step_s=0.01))
        outcome = await request
    finally:
        frozen.signal(signal.SIGCONT)
    assert outcome.streamed == outcome.answer == "".join(f"w{i} " for i in range(20))
    await eventually(lambda: len(log_lines(engine_log, "cancel", outcome.job_id)) == 1)
    assert len(await api.redis.xrange(f"{{viscpm}}:events:{outcome.job_id}")) < 40
    await api.check_accounting(accepted=1, done=1)


async def test_hung_step_loses_its_lease_and_its_process(
    api: ApiSide, start_worker: StartWorker, engine_log: Path
) -> None:
    """A device that hangs: no renewal, the heartbeat says so, then the process ends by itself."""
    hung = start_worker()
    await api.ready(hung)
    job_id = await api.start("hang 60")

    async def is_stalled() -> bool:
        return [one.info.state for one in await api.workers()] == ["stalled"]

    await eventually(is_stalled, 5)
    assert await hung.exit_code(10) == 70
    assert "has hung" in hung.said()
    await api.producer.cancel(job_id, "test_over")
    await api.check_accounting(accepted=1, cancelled=1)


async def test_unrepeatable_job_fails_instead_of_splicing(
    api: ApiSide, start_worker: StartWorker, engine_log: Path
) -> None:
    doomed = start_worker(step_s=0.05)
    await api.ready(doomed)
    request = asyncio.create_task(api.request("differ 20", stream=True))
    await eventually(lambda: len(log_lines(engine_log, "step")) >= 5)
    doomed.kill()
    start_worker(step_s=0.01)
    outcome = await request
    assert outcome.ending is not None and outcome.ending.state == "failed"
    assert "did not repeat itself" in outcome.ending.message
    assert str(doomed.process.pid) in outcome.streamed and outcome.streamed.count("w0") == 1
    await api.check_accounting(accepted=1, failed=1)


async def test_sigterm_finishes_what_it_can(api: ApiSide, start_worker: StartWorker) -> None:
    """FAULTS 13: in flight finishes, exit 0, heartbeat gone."""
    worker = start_worker(step_s=0.05)
    await api.ready(worker)
    request = asyncio.create_task(api.request("stream 20"))
    await eventually(lambda: has_in_hand(api, 1))
    worker.signal(signal.SIGTERM)
    assert (await request).answer == "".join(f"w{i} " for i in range(20))
    assert await worker.exit_code() == 0
    assert await api.workers() == []
    assert await api.redis.xinfo_consumers("{viscpm}:jobs:chat", "workers") == []
    await api.check_accounting(accepted=1, done=1)


async def test_leftovers_are_given_back_at_once(
    redis_url: str, api: ApiSide, start_worker: StartWorker, engine_log: Path
) -> None:
    """FAULTS 13: a second SIGTERM does not wait, and the job is no attempt poorer."""
    patient = quick_settings(redis_url, lease_s=600.0, lease_renew_s=100.0, drain_s=60.0)
    worker = start_worker(patient, step_s=0.1)
    await api.ready(worker)
    request = asyncio.create_task(api.request("stream 30"))
    await eventually(lambda: len(log_lines(engine_log, "step")) >= 3)
    worker.signal(signal.SIGTERM)
    await asyncio.sleep(0.3)
    started_s = time.monotonic()
    worker.signal(signal.SIGTERM)
    assert await worker.exit_code(5) == 0
    assert time.monotonic() - started_s < 2.0
    await api.ready(start_worker(patient))
    outcome = await request
    assert outcome.streamed == outcome.answer == "".join(f"w{i} " for i in range(30))
    record = await api.producer.record(outcome.job_id)
    assert record is not None and record.deliveries == 1
    await api.check_accounting(accepted=1, done=1)


async def test_sigterm_while_loading(redis_url: str, api: ApiSide, start_worker: StartWorker, engine_log: Path) -> None:
    """FAULTS 14."""
    worker = start_worker(quick_settings(redis_url, chat_engine="tests.service.engines:create_slowly"))
    await eventually(lambda: log_lines(engine_log, "load"), 20)
    [live] = await api.workers()
    assert live.info.state == "loading" and live.info.model is None
    started_s = time.monotonic()
    worker.signal(signal.SIGTERM)
    assert await worker.exit_code(5) == 0
    assert time.monotonic() - started_s < 5.0
    assert await api.workers() == []


async def test_load_failure_is_one_clear_line(redis_url: str, start_worker: StartWorker) -> None:
    """FAULTS 15."""
    settings = quick_settings(
        redis_url, chat_engine="tests.service.engines:fail_to_create", chat_checkpoint="/models/wrong"
    )
    worker = start_worker(settings)
    assert await worker.exit_code(20) == 1
    errors = [line for line in worker.said().splitlines() if "ERROR" in line]
    assert len(worker.said().splitlines()) == len(errors) == 1
    assert "cannot load the chat model: /models/wrong: no key `llm.input_embedding.weight` and 3 more" in errors[0]


async def has_length(api: ApiSide, count: int) -> bool:
    return bool(await api.redis.xlen("{viscpm}:jobs:chat") == count)


async def has_in_hand(api: ApiSide, count: int) -> bool:
    return [one.info.jobs for one in await api.workers()] == [count]


async def is_without_workers(api: ApiSide) -> bool:
    return await api.workers() == []


async def test_a_job_whose_claim_is_refused_is_stopped(
    api: ApiSide, start_worker: StartWorker, engine_log: Path
) -> None:
    """A worker begins before its claim is answered; here the job has ended and left an entry behind."""
    await api.ready(start_worker(step_s=0.05))
    job = make_job("chat", "left-behind", "stream 200")
    await api.redis.xadd("{viscpm}:jobs:chat", {"id": job.job_id, "job": encode(job), "inboxes": ""})
    await eventually(lambda: log_lines(engine_log, "cancel", job.job_id))
    assert not log_lines(engine_log, "done", job.job_id)
    assert await api.redis.xlen("{viscpm}:jobs:chat") == 0 and await api.redis.exists("{viscpm}:job:left-behind") == 0
    assert (await api.request("echo next")).answer == "next"


async def test_threads_wait_without_spinning_unless_told_otherwise(
    redis_url: str, api: ApiSide, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch, engine_log: Path
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    await api.ready(start_worker(quick_settings(redis_url)))
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    await api.ready(start_worker(quick_settings(redis_url)))
    assert log_lines(engine_log, "waiting", "PASSIVE") and log_lines(engine_log, "waiting", "ACTIVE")


async def test_threads_are_those_asked_for_else_a_share_of_the_cores(
    redis_url: str, api: ApiSide, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    asked = start_worker(quick_settings(redis_url, threads=3, host_workers=64))
    shared = start_worker(quick_settings(redis_url, host_workers=64))
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    told_otherwise = start_worker(quick_settings(redis_url))
    await api.ready(asked, shared, told_otherwise)
    assert "computing with 3 threads" in asked.said(), "the variable goes before any share"
    assert f"computing with {max(1, threads_beside(64))} threads" in shared.said()
    assert "computing with" not in told_otherwise.said(), "OMP_NUM_THREADS is left as it is"
