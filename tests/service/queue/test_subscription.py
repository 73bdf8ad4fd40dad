"""One watcher's view of a job: late, deaf for a while, or past the deadline."""

import asyncio
import time

import pytest

from models.jobs import ChatJob, Delta, Generated, encode
from service.core.errors import JobLost
from service.core.settings import Settings
from service.jobs.intents import SafetyIntent
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
        await api.redis.delete(f"{{viscpm}}:inbox:{api.process_id}")
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
    assert api.producer._inbox._subscriptions == {}


async def test_past_its_deadline_a_job_is_cancelled_for_its_watcher(redis_url: str) -> None:
    async with api_side(quick_settings(redis_url, chat_deadline_s=0.3)) as api:
        started_s = time.monotonic()
        outcome = await api.request("echo nobody takes it")
        assert outcome.ending is not None and outcome.ending.code == "deadline_exceeded"
        assert 0.2 < time.monotonic() - started_s < 2.0
        await api.check_accounting(accepted=1, cancelled=1)


async def test_what_is_told_twice_or_out_of_order_is_seen_once_and_in_order(api: ApiSide, settings: Settings) -> None:
    worker = api.consumer(settings)
    await api.producer.reserve("chat", "a")
    async with api.producer.subscribe("a") as watch:
        await api.producer.submit(ChatJob(job_id="a", question="x"), SafetyIntent())
        delivery = await take_one(worker)
        pieces = [Delta(token_ids=[number], text=f"{number}", offset_chars=number) for number in range(4)]
        for piece in pieces:
            delivery.add(piece)
        await worker.publish([delivery])
        token = delivery.token
        for number in (3, 1, 1, 2):  # as an inbox that is read again tells
            watch.put(b"%d-%d" % (token, number), encode(pieces[number - 1]))
        seen = [await asyncio.wait_for(anext(watch), 5) for _ in pieces]
        assert seen == pieces
        await generate(worker, delivery)
        assert isinstance(await asyncio.wait_for(anext(watch), 5), Generated)
        await api.producer.finish("a", Ending("done"))
        assert [event async for event in watch] == [Ending("done")]


async def test_a_job_that_redis_does_not_know_is_lost(api: ApiSide) -> None:
    async with api.producer.subscribe("never was") as watch:
        with pytest.raises(JobLost, match="job never was is unknown"):
            await anext(watch)


async def test_who_comes_after_the_end_sees_it_at_once(api: ApiSide) -> None:
    job_id = await api.start("x")
    await api.producer.cancel(job_id, "test_over")
    async with api.producer.subscribe(job_id) as watch:
        [ending] = [event async for event in watch]
    assert isinstance(ending, Ending) and (ending.state, ending.code) == ("cancelled", "test_over")
