"""The worker's side of the bus: who may hold a job, and whose word counts."""

import asyncio

import pytest

from models.jobs import Delta
from service.core.settings import Settings
from service.queue.consumer import JobConsumer
from service.queue.record import Ending
from service.redis.keys import Keys
from tests.service.queue.deliveries import generate, generated, take_one
from tests.service.tree import ApiSide, quick_settings

KEYS = Keys("viscpm")


def claim_keys(job_id: str) -> tuple[str, ...]:
    return (*KEYS.of_job(job_id), KEYS.dead("chat"))


async def test_no_job_is_handed_out_twice(api: ApiSide, settings: Settings) -> None:
    workers = [api.consumer(settings, f"w{i}") for i in range(4)]
    await workers[0].take(1, lambda: 0, 0.05)  # makes the group
    job_ids = [await api.start(f"echo {i}") for i in range(40)]
    taken: list[str] = []

    async def work(worker: JobConsumer) -> None:
        while deliveries := await worker.take(3, lambda: 0, 0.1):
            for delivery in deliveries:
                taken.append(delivery.job_id)
                await generate(worker, delivery)

    await asyncio.gather(*map(work, workers))
    assert sorted(taken) == sorted(job_ids)
    for job_id in job_ids:
        assert await api.producer.finish(job_id, Ending("done"))
    await api.check_accounting(accepted=40, done=40)


@pytest.mark.waiting
async def test_a_renewed_lease_is_kept_and_an_old_one_is_lost(redis_url: str, api: ApiSide) -> None:
    settings = quick_settings(redis_url, lease_s=0.4, lease_renew_s=0.1)
    first, second = api.consumer(settings, "first"), api.consumer(settings, "second")
    await api.start("echo x")
    delivery = await take_one(first)
    for _ in range(4):
        await asyncio.sleep(0.2)
        assert await first.renew([delivery]) == []
        assert await second.recover(1, 0) == []
    await asyncio.sleep(0.5)
    [taken] = await second.recover(1, 0)
    assert taken.token == delivery.token + 1

    delivery.add(Delta(token_ids=[1], text="late", offset_chars=0))
    delivery.add(generated("late"))
    assert await first.publish([delivery]) == ([delivery], [], [])
    assert await first.renew([delivery]) == [delivery]
    await generate(second, taken)
    record = await api.producer.record(taken.job_id)
    assert record is not None and record.state == "generated"
    assert b"late" not in await api.redis.hget(f"{{viscpm}}:job:{taken.job_id}", "result")
    assert await api.redis.xlen(f"{{viscpm}}:events:{taken.job_id}") == 0
    await api.producer.finish(taken.job_id, Ending("done"))
    await api.check_accounting(accepted=1, done=1)


async def test_a_claim_of_a_worker_that_slept_is_refused(redis_url: str, api: ApiSide) -> None:
    """It read the entry, froze, and wakes when another has the job already."""
    settings = quick_settings(redis_url, lease_s=0.2, lease_renew_s=0.1)
    second = api.consumer(settings, "second")
    await second.take(1, lambda: 0, 0.05)
    job_id = await api.start("echo x")
    reply = await api.connection.send(
        "XREADGROUP", "GROUP", "workers", "first", "COUNT", 1, "STREAMS", "{viscpm}:jobs:chat", ">"
    )
    entry = reply[b"{viscpm}:jobs:chat"][0][0]
    await asyncio.sleep(0.3)
    [taken] = await second.recover(1, 0)
    assert await api.connection.transition("claim", claim_keys(job_id), "chat", entry, job_id, "first", 3, 0) == [
        b"gone"
    ]
    await generate(second, taken)
    await api.producer.finish(job_id, Ending("done"))
    await api.check_accounting(accepted=1, done=1)


async def test_publishing_again_changes_nothing(api: ApiSide, settings: Settings) -> None:
    """As after a reply that was lost with its connection."""
    worker = api.consumer(settings)
    job_id = await api.start("echo x")
    delivery = await take_one(worker)
    deltas = [Delta(token_ids=[i], text="x", offset_chars=i) for i in range(3)]
    for delta in deltas:
        delivery.add(delta)
    sent_before = list(delivery.unsent)
    assert await worker.publish([delivery]) == ([], [], [])
    delivery.unsent, delivery.next_number = sent_before, 1
    delivery.add(generated("xxx"))
    assert await worker.publish([delivery]) == ([], [delivery], [])
    delivery.unsent, delivery.next_number = sent_before, 1
    assert await worker.publish([delivery]) == ([], [delivery], [])
    assert await api.redis.xlen(f"{{viscpm}}:events:{job_id}") == 3
    async with api.producer.subscribe(job_id) as watch:
        events = [await anext(watch) for _ in range(4)]
    assert events[:3] == deltas
    await api.producer.finish(job_id, Ending("done"))
    await api.check_accounting(accepted=1, done=1)


async def test_cancelled_between_queue_and_claim(api: ApiSide, settings: Settings) -> None:
    worker = api.consumer(settings)
    await worker.take(1, lambda: 0, 0.05)
    job_id = await api.start("echo x")
    reply = await api.connection.send(
        "XREADGROUP", "GROUP", "workers", "w1", "COUNT", 1, "STREAMS", "{viscpm}:jobs:chat", ">"
    )
    await api.producer.cancel(job_id, "client_gone")
    [[entry, _]] = reply[b"{viscpm}:jobs:chat"]
    assert await api.connection.transition("claim", claim_keys(job_id), "chat", entry, job_id, "w1", 3, 0) == [b"gone"]
    await api.check_accounting(accepted=1, cancelled=1)


async def test_given_back_jobs_go_to_the_next_at_once(api: ApiSide, settings: Settings) -> None:
    first, second = api.consumer(settings, "first"), api.consumer(settings, "second")
    job_ids = [await api.start(f"echo {i}") for i in range(3)]
    held = [await take_one(first) for _ in range(2)]
    await first.requeue(held[0], is_counted=False, is_isolated=False)
    await first.requeue(held[1], is_counted=True, is_isolated=True)
    await api.connection.send(
        "XREADGROUP", "GROUP", "workers", "first", "COUNT", 1, "STREAMS", "{viscpm}:jobs:chat", ">"
    )
    assert await first.release("first") == 1  # read, and never claimed
    assert await first.publish(held) == (held, [], [])  # fenced off

    [one] = await second.recover(1, 0)
    assert one.job_id == job_ids[0] and not one.is_isolated
    assert await second.recover(5, 1) == [] and second.must_empty  # the next one wants no company
    [two] = await second.recover(5, 0)
    assert two.job_id == job_ids[1] and two.is_isolated
    [three] = await second.recover(5, 0)
    assert three.job_id == job_ids[2]
    deliveries = [record.deliveries for job_id in job_ids if (record := await api.producer.record(job_id))]
    assert deliveries == [1, 2, 1]
    for job_id in job_ids:
        await api.producer.cancel(job_id, "test_over")
    await api.check_accounting(accepted=3, cancelled=3)


async def test_consumers_of_gone_workers_are_removed_unless_they_hold_something(
    api: ApiSide, settings: Settings
) -> None:
    worker = api.consumer(settings)
    await worker.take(1, lambda: 0, 0.05)
    job_id = await api.start("echo x")
    await api.connection.send(
        "XREADGROUP", "GROUP", "workers", "holds", "COUNT", 1, "STREAMS", "{viscpm}:jobs:chat", ">"
    )
    await api.connection.send("XGROUP", "CREATECONSUMER", "{viscpm}:jobs:chat", "workers", "empty")
    await asyncio.sleep(0.01)
    assert await api.connection.transition("tidy_consumers", KEYS.of_jobs(), "chat", 0) >= 1
    names = {consumer["name"] for consumer in await api.redis.xinfo_consumers("{viscpm}:jobs:chat", "workers")}
    assert b"holds" in names and b"empty" not in names
    await api.producer.cancel(job_id, "test_over")


async def test_an_entry_without_a_record_is_thrown_away(api: ApiSide, settings: Settings) -> None:
    worker = api.consumer(settings)
    await worker.take(1, lambda: 0, 0.05)
    job_id = await api.start("echo x")
    await api.redis.delete(f"{{viscpm}}:job:{job_id}")
    [delivery] = await worker.take(1, lambda: 0, 0.1)
    assert delivery.claim is not None
    await delivery.claim
    assert not worker.is_claimed(delivery.claim)
    assert await api.redis.xlen("{viscpm}:jobs:chat") == 0
    await api.redis.zadd("{viscpm}:slots:chat", {job_id: 1})
    assert (await api.producer.sweep()).lost == 1
    await api.check_accounting(accepted=1, failed=1)
