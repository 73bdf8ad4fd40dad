"""Slots, endings and watches, against a real server."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from models.jobs import ChatJob, Failed, Generated, encode
from service.core.errors import JobFailed, JobLost, QueueFull
from service.core.settings import Settings
from service.jobs.intents import SafetyIntent
from service.process.parent_death import dies_with_parent
from service.queue.producer import JobProducer
from service.queue.record import Ending, TurnAppend
from service.redis.keys import Keys
from tests.service.queue.deliveries import generate, take_one
from tests.service.tree import ROOT, ApiSide, api_side, eventually, quick_settings

KEYS = Keys("viscpm")


async def test_slots_are_exact_across_processes(redis_url: str) -> None:
    """FAULTS 1 and 2: N slots, N + k requests at two API processes at once: exactly k refused, and at once."""
    settings = quick_settings(redis_url, queue_size=20)
    async with api_side(settings) as first, api_side(settings) as second:
        await asyncio.gather(first.producer.depth("chat"), second.producer.depth("chat"))  # connected
        started_s = time.monotonic()
        results = await asyncio.gather(
            *((first if i % 2 else second).producer.reserve("chat", f"job-{i}") for i in range(33)),
            return_exceptions=True,
        )
        assert time.monotonic() - started_s < 0.5
        refused = [one for one in results if isinstance(one, QueueFull)]
        assert len(refused) == 13 and all(one.retry_after_s for one in refused)
        assert [one for one in results if one is not None and not isinstance(one, QueueFull)] == []
        assert await first.producer.depth("chat") == 20
        await first.producer.reserve("paint", "other model")  # has slots of its own
        await second.producer.cancel("other model", "test_over")

        granted = [f"job-{i}" for i, one in enumerate(results) if one is None]
        for job_id, state in zip(granted, ["refused", "failed", "cancelled"] * 7, strict=False):
            assert await first.producer.finish(job_id, Ending(state))  # type: ignore[arg-type]
        await first.check_accounting(accepted=21, refused=7, failed=7, cancelled=7)


@pytest.mark.own_process
async def test_a_killed_api_process_leaks_no_slot(redis_url: str) -> None:
    """FAULTS 2: its reserved slots end by the server's clock, and its queued jobs by their deadline."""
    settings = quick_settings(redis_url, queue_size=2, slot_lease_s=0.3, chat_deadline_s=0.3)
    script = (
        "import asyncio, os, sys\n"
        "from tests.service.tree import *\n"
        "async def main():\n"
        "    async with api_side(quick_settings(sys.argv[1], chat_deadline_s=0.3, slot_lease_s=0.3)) as api:\n"
        "        await api.producer.reserve('chat', 'abandoned')\n"
        "        await api.start('echo nobody waits')\n"
        "        os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = dies_with_parent([sys.executable, "-c", script, redis_url])
    assert await asyncio.to_thread(subprocess.call, command, env=environment) == -signal.SIGKILL
    async with api_side(settings) as api:
        with pytest.raises(QueueFull):
            await api.producer.reserve("chat", "a")
        await asyncio.sleep(0.35)
        await api.producer.reserve("chat", "b")  # what outlived its lease takes no slot any more
        assert (await api.producer.sweep()).expired == 1
        assert await api.state("abandoned") == "failed"
        await api.producer.cancel("b", "test_over")
        await eventually(lambda: swept_overdue(api.producer), 5)
        await api.check_accounting(accepted=3, failed=1, cancelled=2)


async def swept_overdue(producer: JobProducer) -> bool:
    return (await producer.sweep()).overdue == 1


@pytest.mark.waiting
async def test_a_slot_is_kept_while_its_request_lives(redis_url: str) -> None:
    async with api_side(quick_settings(redis_url, slot_lease_s=0.3, queue_size=1)) as api:
        await api.producer.reserve("chat", "slow")
        for _ in range(5):
            await asyncio.sleep(0.15)
            assert await api.producer.renew_slot("slow")
            assert (await api.producer.sweep()).expired == 0
            with pytest.raises(QueueFull):
                await api.producer.reserve("chat", "another")
        await asyncio.sleep(0.35)
        assert (await api.producer.sweep()).expired == 1
        assert not await api.producer.renew_slot("slow")
        await api.check_accounting(accepted=1, failed=1)


async def test_submit_after_the_slot_was_lost(redis_url: str) -> None:
    async with api_side(quick_settings(redis_url, slot_lease_s=0.05)) as api:
        await api.producer.reserve("chat", "slow")
        await asyncio.sleep(0.1)
        assert (await api.producer.sweep()).expired == 1
        with pytest.raises(JobFailed, match="was failed before"):
            await api.producer.submit(ChatJob(job_id="slow", question="x"), SafetyIntent())
        await api.check_accounting(accepted=1, failed=1)


async def test_a_job_ends_once(api: ApiSide, settings: Settings) -> None:
    worker = api.consumer(settings)
    job_id = await api.start("echo x")
    with pytest.raises(RuntimeError, match="only a generated one can be done"):
        await api.producer.finish(job_id, Ending("done"))
    await generate(worker, await take_one(worker))
    endings = [Ending("done", body=b"d"), Ending("cancelled"), Ending("refused"), Ending("failed")] * 5
    won = await asyncio.gather(*(api.producer.finish(job_id, ending) for ending in endings))
    assert won.count(True) == 1
    record = await api.producer.record(job_id)
    assert record is not None and record.ending == endings[won.index(True)]
    assert record.intent == b"" and not await api.redis.hexists(
        f"{{viscpm}}:job:{job_id}", "result"
    )  # the unscreened is gone
    assert await api.redis.pttl(f"{{viscpm}}:job:{job_id}") > 0
    with pytest.raises(JobLost):
        await api.producer.finish("unknown", Ending("failed"))
    await api.check_accounting(accepted=1)


async def test_the_turn_is_written_with_the_ending_or_not_at_all(api: ApiSide, settings: Settings) -> None:
    worker = api.consumer(settings)

    async def finish(turn: TurnAppend) -> bool:
        job_id = f"job-{turn.turn.decode()}"
        await api.producer.reserve("chat", job_id)
        await api.redis.set("{viscpm}:conversation:t:1:busy", job_id)
        await api.producer.submit(ChatJob(job_id=job_id, question="x", pixels=b"rgb" + turn.turn), SafetyIntent())
        delivery = await take_one(worker)
        assert isinstance(delivery.job, ChatJob) and delivery.job.pixels == b""  # a worker reads them where it must
        assert await worker.pixels(delivery.job) == b"rgb" + turn.turn
        await generate(worker, delivery)
        first = await api.producer.finish(job_id, Ending("done"), turn)
        assert not await api.producer.finish(job_id, Ending("done"), turn)
        return first

    fields = {"digest": b"\x00\xff"}
    assert await finish(TurnAppend("t:1", b"1", 60, 3, is_new=True, fields=fields))
    assert await api.redis.hgetall("{viscpm}:conversation:t:1") == {b"digest": b"\x00\xff"}
    assert await api.redis.exists("{viscpm}:conversation:t:1:busy") == 0
    assert await api.redis.get("{viscpm}:conversation:t:1:pixels") == b"rgb1"
    for turn in (b"2", b"3", b"4"):
        assert await finish(TurnAppend("t:1", turn, 60, 3))
    assert await api.redis.lrange("{viscpm}:conversation:t:1:turns", 0, -1) == [b"2", b"3", b"4"]
    assert 0 < await api.redis.ttl("{viscpm}:conversation:t:1:turns") <= 60
    assert await api.redis.keys("{viscpm}:pixels:*") == []
    await api.redis.delete("{viscpm}:conversation:t:1", "{viscpm}:conversation:t:1:turns")
    assert await finish(TurnAppend("t:1", b"5", 60, 3))  # deleted meanwhile: stays so
    assert await api.redis.exists("{viscpm}:conversation:t:1", "{viscpm}:conversation:t:1:turns") == 0
    await api.check_accounting(accepted=5, done=5)


async def test_unscreened_results_of_a_dead_process_are_adopted_once(redis_url: str, settings: Settings) -> None:
    async with api_side(settings) as first, api_side(settings) as second:
        dead = ApiSide(settings)
        await dead.producer.start()
        job_id = await dead.start("echo x")
        worker = first.consumer(settings)
        await generate(worker, await take_one(worker))
        assert await first.producer.abandoned() == []  # its owner lives
        assert await first.producer.claim_result(job_id) is None
        await dead.close()  # its heartbeat goes with it
        assert await first.producer.abandoned() == await second.producer.abandoned() == [job_id]
        claims = await asyncio.gather(first.producer.claim_result(job_id), second.producer.claim_result(job_id))
        [claim] = [claim for claim in claims if claim is not None]
        assert claim.generated and claim.intent and 0 < claim.left_s <= settings.chat_deadline_s
        assert await first.producer.abandoned() == await second.producer.abandoned() == []
        assert await first.producer.finish(job_id, Ending("done", body=b"late answer"))
        async with second.producer.subscribe(job_id) as watch:
            assert [event async for event in watch] == [Ending("done", body=b"late answer")]
        await first.check_accounting(accepted=1, done=1)


async def test_the_local_clock_decides_nothing(
    redis_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAULTS 33: this host's clock jumps by a day, twice; slots, leases and deadlines stand."""
    real_time = time.time
    async with api_side(settings) as api:
        worker = api.consumer(settings)
        await api.producer.reserve("chat", "a")
        monkeypatch.setattr(time, "time", lambda: real_time() + 86_400)
        async with api.producer.subscribe("a") as watch:
            await api.producer.submit(ChatJob(job_id="a", question="x"), b"")
            delivery = await take_one(worker)
            monkeypatch.setattr(time, "time", lambda: real_time() - 86_400)
            assert (await api.producer.sweep()).overdue == 0
            assert await api.consumer(settings, "w2").recover(1, 0) == []
            assert await worker.renew([delivery]) == []
            await generate(worker, delivery)
            assert isinstance(await anext(watch), Generated)
            assert await api.producer.finish("a", Ending("done"))
        await api.check_accounting(accepted=1, done=1)


async def test_a_failed_job_says_why(api: ApiSide, settings: Settings) -> None:
    worker = api.consumer(settings)
    await api.producer.reserve("chat", "a")
    async with api.producer.subscribe("a") as watch:
        await api.producer.submit(ChatJob(job_id="a", question="x"), b"")
        delivery = await take_one(worker)
        delivery.add(Failed(code="generation_failed", message="NaN"))
        assert await worker.publish([delivery]) == ([], [delivery], [])
        assert [event async for event in watch] == [Ending("failed", "generation_failed", "NaN")]
    await api.check_accounting(accepted=1, failed=1)


async def test_what_a_worker_refuses_is_the_requests_fault_and_said_twice_changes_nothing(
    api: ApiSide, settings: Settings
) -> None:
    worker = api.consumer(settings)
    await api.producer.reserve("chat", "a")
    async with api.producer.subscribe("a") as watch:
        await api.producer.submit(ChatJob(job_id="a", question="x"), b"")
        delivery = await take_one(worker)
        delivery.add(Failed(code="context_length_exceeded", message="too long"))
        for _ in range(2):
            assert await worker.publish([delivery]) == ([], [delivery], [])
        assert [event async for event in watch] == [Ending("refused", "context_length_exceeded", "too long")]
    await api.check_accounting(accepted=1, refused=1)


async def test_an_unreadable_job_fails(api: ApiSide, settings: Settings) -> None:
    """A job of another bus version, such as during an upgrade."""
    await api.producer.reserve("chat", "a")
    newer = b"\x63" + encode(ChatJob(job_id="a", question="x"))[1:]
    await api.connection.transition("submit", KEYS.of_job("a"), "chat", "a", newer, b"", b"", 1000, 0)
    worker = api.consumer(settings)
    assert await worker.take(1, lambda: 0, 0.1) + await worker.take(1, lambda: 0, 0.1) == []
    record = await api.producer.record("a")
    assert record is not None and record.ending is not None and "bus version 99" in record.ending.message
    await api.check_accounting(accepted=1, failed=1)


def test_scripts_are_shipped() -> None:
    import service.redis.connection

    assert (Path(service.redis.connection.__file__).parent / "transitions.lua").exists()
