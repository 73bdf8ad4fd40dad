"""Who is next: interactive jobs before batch jobs, of which every fifth is one all the same; none is lost or waits."""

import asyncio

import pytest

from service.core.errors import QueueFull
from service.core.settings import Settings
from service.jobs.intents import SafetyIntent
from service.queue.consumer import JobConsumer
from service.queue.record import Ending, Priority
from service.queue.waiting_jobs import WaitingJobs
from service.redis.connection import BlockingReader
from service.redis.keys import Keys
from tests.service.queue.deliveries import generate, take_one
from tests.service.tree import ApiSide, api_side, make_job, quick_settings

BATCHES = "{viscpm}:jobs:chat:batch"


async def queue(api: ApiSide, job_id: str, priority: Priority) -> None:
    await api.producer.reserve("chat", job_id, "t", None, priority)
    await api.producer.submit(make_job("chat", job_id, "echo x"), SafetyIntent(), priority=priority)


async def take(worker: JobConsumer, room: int, in_hand: int = 1) -> list[str]:
    return [delivery.job_id for delivery in await worker.take(room, lambda: in_hand, 0.05)]


@pytest.fixture
async def worker(api: ApiSide, settings: Settings) -> JobConsumer:
    consumer = api.consumer(settings)
    assert await take(consumer, 1) == []  # makes the groups
    assert await take(consumer, 1) == []  # finds nothing in either
    return consumer


async def test_interactive_jobs_go_first_and_every_fifth_is_of_a_batch(api: ApiSide, worker: JobConsumer) -> None:
    for number in range(4):
        await queue(api, f"b{number}", "batch")
    for number in range(10):
        await queue(api, f"i{number}", "interactive")
    taken = [job_id for _ in range(14) for job_id in await take(worker, 1)]
    assert taken == ["i0", "i1", "i2", "i3", "b0", "i4", "i5", "i6", "i7", "b1", "i8", "i9", "b2", "b3"]


async def test_a_worker_with_room_takes_a_batch_beside_the_others(api: ApiSide, worker: JobConsumer) -> None:
    for number in range(8):
        await queue(api, f"i{number}", "interactive")
    for number in range(3):
        await queue(api, f"b{number}", "batch")
    assert await take(worker, 5) == ["i0", "i1", "i2", "i3", "i4"]
    assert await take(worker, 3) == ["b0", "i5", "i6"]
    assert await take(worker, 5) == ["i7"]
    assert await take(worker, 5) == ["b1", "b2"]


async def test_an_idle_worker_wakes_for_a_batch(api: ApiSide, worker: JobConsumer) -> None:
    waiting = asyncio.create_task(worker.take(4, lambda: 0, 5.0))
    await asyncio.sleep(0.1)
    await queue(api, "b", "batch")
    async with asyncio.timeout(2.0):
        [delivery] = await waiting
    assert (delivery.job_id, delivery.queue) == ("b", "chat:batch")


async def test_what_wakes_a_worker_beyond_its_room_is_taken_next(api: ApiSide, worker: JobConsumer) -> None:
    """A job of either priority that came in the same moment: one is left for the next call, in the usual order."""
    for job_id in ("b0", "b1"):
        await queue(api, job_id, "batch")
    for number in range(3):
        await queue(api, f"i{number}", "interactive")
    assert not worker._waiting._may_have_batch, "none was found when the groups were made and the worker looked"
    assert await take(worker, 1, in_hand=0) == ["i0"]
    assert [entry.fields[1] for entry in worker._waiting._left] == [b"b0"]
    assert await take(worker, 1) == ["i1"], "not what was left of a batch"
    assert await take(worker, 2) == ["i2"]
    assert await take(worker, 2) == ["b0", "b1"]
    assert await take(worker, 1) == []


async def test_an_idle_worker_without_batches_asks_once_for_each_job(
    api: ApiSide, worker: JobConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    read = worker._waiting._reader.read

    async def noted(*command: str | bytes | int, block_s: float) -> object:
        asked.append(str(command[0]))
        return await read(*command, block_s=block_s)

    monkeypatch.setattr(worker._waiting._reader, "read", noted)
    for number in range(3):
        await queue(api, f"i{number}", "interactive")
        assert await take(worker, 4, in_hand=0) == [f"i{number}"]
    assert asked == ["XREADGROUP"] * 3


async def test_a_job_that_finds_the_worker_idle_begins_beside_its_claim(api: ApiSide, worker: JobConsumer) -> None:
    in_hand = ["earlier"]
    for job_id, is_busy in (("beside", True), ("before", False)):
        waiting = asyncio.create_task(worker.take(4, lambda: len(in_hand), 5.0))
        await asyncio.sleep(0.05)
        if not is_busy:
            in_hand.clear()  # when it was asked for, there was another
        await queue(api, job_id, "interactive")
        [delivery] = await waiting
        assert (delivery.job_id, delivery.claim is None) == (job_id, is_busy)


async def test_a_batch_job_lives_and_ends_as_others_do(api: ApiSide, worker: JobConsumer, settings: Settings) -> None:
    for job_id in ("cancelled", "given back", "lost"):
        await queue(api, job_id, "batch")
    assert (await api.producer.place("lost", "chat")).num_before == 2
    await api.producer.cancel("cancelled", "test")
    assert await api.redis.xlen(BATCHES) == 2
    given_back = await take_one(worker)
    assert await worker.renew([given_back]) == []
    await worker.requeue(given_back, False, False)
    [again] = await worker.recover(1, 0)
    assert (again.job_id, again.number, again.queue) == ("given back", 1, "chat:batch")
    await generate(worker, again)
    await api.producer.finish("given back", Ending("done"))
    lost = await take_one(worker)
    heir = api.consumer(settings, "heir")
    assert await worker.release("w1") == 1
    [taken_over] = await heir.recover(1, 0)
    assert (taken_over.job_id, taken_over.number) == ("lost", 2)
    assert await worker.renew([lost]) == [lost]
    await generate(heir, taken_over)
    await api.producer.finish("lost", Ending("done"))
    assert await api.redis.xlen(BATCHES) == 0
    await api.check_accounting(done=2, cancelled=1)


async def test_a_batch_waits_behind_what_is_interactive(api: ApiSide, worker: JobConsumer) -> None:
    await queue(api, "b", "batch")
    for number in range(3):
        await queue(api, f"i{number}", "interactive")
    assert (await api.producer.place("b", "chat")).num_before == 3
    assert (await api.producer.place("i2", "chat")).num_before == 2
    await take(worker, 1)
    place = await api.producer.place("b", "chat")
    assert (place.num_before, place.num_in_work) == (2, 1)


async def test_what_was_left_and_is_taken_over_is_not_begun_twice(api: ApiSide, worker: JobConsumer) -> None:
    await queue(api, "b", "batch")
    waiting = worker._waiting
    waiting._left = await waiting._read(1, waiting.queues)
    await asyncio.sleep(0.02)
    _, entries = await waiting.take_over(1, "chat:batch", "0-0")
    assert [entry.fields[1] for entry in entries] == [b"b"] and waiting._left == []


async def test_batches_leave_half_of_the_slots_to_others(redis_url: str) -> None:
    async with api_side(quick_settings(redis_url, queue_size=4)) as api:
        for number in range(2):
            await queue(api, f"b{number}", "batch")
        with pytest.raises(QueueFull, match="all 2 slots"):
            await api.producer.reserve("chat", "b2", "t", None, "batch")
        for number in range(2):
            await queue(api, f"i{number}", "interactive")
        with pytest.raises(QueueFull, match="all 4 slots"):
            await api.producer.reserve("chat", "i2", "t")


async def test_screenings_have_no_batches(api: ApiSide) -> None:
    reader = BlockingReader(api.servers)
    screens = WaitingJobs(reader, api.connection, Keys("viscpm"), "safety", "s1")
    assert screens.queues == ("safety",)
    assert await screens.take(1, 0.05) == []
    await reader.close()
