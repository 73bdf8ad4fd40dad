"""One watcher's view of a job: late, deaf for a while, or past the deadline."""

import asyncio
import time

import pytest

from models.jobs import ChatJob, Delta, Generated
from service.core.settings import Settings
from service.queue.record import Ending
from tests.service.queue.deliveries import generate, take_one
from tests.service.tree import ApiSide, api_side, eventually, quick_settings


async def test_late_watchers_of_any_process_see_everything(redis_url: str, settings: Settings) -> None:
    async with api_side(settings) as first, api_side(settings) as second:
        worker = first.consumer(settings)
        job_id = await first.start("x")
        delivery = await take_one(worker)
        seen: list[object] = []

        async def follow() -> None:
            async with second.producer.subscribe(job_id) as watch:
                async for event in watch:
                    seen.append(event)

        delivery.add(Delta(token_ids=[1], text="a", offset_chars=0))
        await worker.publish([delivery])
        follower = asyncio.create_task(follow())
        await eventually(lambda: len(seen) == 1)
        delivery.add(Delta(token_ids=[2], text="b", offset_chars=1))
        delivery.add(Delta(token_ids=[3], text="c" * 10_000, offset_chars=2))  # too large to go inline
        delivery.add(Delta(token_ids=[4], text="d", offset_chars=10_002))
        await worker.publish([delivery])
        await generate(worker, delivery)
        await eventually(lambda: len(seen) == 5)
        await first.producer.finish(job_id, Ending("done"))
        await follower
        assert "".join(event.text for event in seen if isinstance(event, Delta)) == "ab" + "c" * 10_000 + "d"
        assert isinstance(seen[-2], Generated) and isinstance(seen[-1], Ending)


async def test_a_watch_survives_the_loss_of_its_inbox(api: ApiSide, settings: Settings) -> None:
    worker = api.consumer(settings)
    await api.producer.reserve("chat", "a")
    async with api.producer.subscribe("a") as watch:
        await api.producer.submit(ChatJob(job_id="a", question="x"), b"")
        delivery = await take_one(worker)
        delivery.add(Delta(token_ids=[1], text="a", offset_chars=0))
        await worker.publish([delivery])
        assert isinstance(await anext(watch), Delta)
        await api.redis.delete(f"inbox:{api.process_id}")
        delivery.add(Delta(token_ids=[2], text="b", offset_chars=1))
        await worker.publish([delivery])  # nobody is told
        event = await asyncio.wait_for(anext(watch), 5)  # the process notices with its next heartbeat
        assert isinstance(event, Delta) and event.text == "b"
        await generate(worker, delivery)
        assert isinstance(await asyncio.wait_for(anext(watch), 5), Generated)
        await api.producer.finish("a", Ending("done"))
        assert isinstance(await anext(watch), Ending)
        with pytest.raises(StopAsyncIteration):
            await anext(watch)
    assert api.producer._subscriptions == {}


async def test_past_its_deadline_a_job_is_cancelled_for_its_watcher(redis_url: str) -> None:
    async with api_side(quick_settings(redis_url, chat_deadline_s=0.3)) as api:
        started_s = time.monotonic()
        outcome = await api.request("echo nobody takes it")
        assert outcome.ending is not None and outcome.ending.code == "deadline_exceeded"
        assert 0.2 < time.monotonic() - started_s < 2.0
        await api.check_accounting(accepted=1, cancelled=1)
