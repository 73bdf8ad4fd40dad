"""Tenants share a busy queue by their keys' weights: nobody waits for another's backlog, and none of it is lost."""

import asyncio
import random
import time
from collections import defaultdict
from itertools import combinations

import pytest

from service.access.api_keys import ApiKey
from service.core.settings import Settings
from service.jobs.intents import SafetyIntent
from service.queue.consumer import JobConsumer
from service.queue.record import Ending, Priority
from tests.service.queue.deliveries import generate
from tests.service.tree import ApiSide, api_side, make_job, quick_settings

STREAM = "{viscpm}:jobs:chat"


def key(tenant: str, weight: int = 1) -> ApiKey:
    return ApiKey(f"{tenant:0>12}", "app", tenant, ("chat",), b"", 0, weight=weight)


async def queue(
    api: ApiSide, job_id: str, tenant: str, weight: int = 1, priority: Priority = "interactive", is_keyed: bool = True
) -> None:
    await api.producer.reserve("chat", job_id, tenant, key(tenant, weight) if is_keyed else None, priority)
    await api.producer.submit(make_job("chat", job_id, "echo x"), SafetyIntent(), priority=priority)


async def take(worker: JobConsumer, room: int = 1, in_hand: int = 1) -> list[str]:
    return [delivery.job_id for delivery in await worker.take(room, lambda: in_hand, 0.02)]


async def take_all(worker: JobConsumer) -> list[str]:
    taken: list[str] = []
    while more := await take(worker):
        taken += more
    return taken


async def nothing_is_left(api: ApiSide) -> None:
    for name in ("waiting", "held", "tenant_slots"):
        assert not await api.redis.exists(f"{{viscpm}}:{name}"), name
    for name in (STREAM, f"{STREAM}:batch"):
        assert await api.redis.xlen(name) == 0


@pytest.fixture
async def worker(api: ApiSide, settings: Settings) -> JobConsumer:
    consumer = api.consumer(settings)
    assert await take(consumer) == await take(consumer) == []  # makes the groups, and finds nothing
    return consumer


@pytest.mark.slow
async def test_a_flood_of_one_tenant_delays_anothers_job_by_nothing_but_what_runs(redis_url: str) -> None:
    settings = quick_settings(redis_url, queue_size=2000)
    async with api_side(settings) as api:
        worker = api.consumer(settings)
        await take(worker)
        for first in range(0, 1000, 50):
            await asyncio.gather(*(queue(api, f"a{number:03}", "a") for number in range(first, first + 50)))
        running = await take(worker, 4)
        began_s = time.monotonic()
        await queue(api, "b0", "b")
        took_s = time.monotonic() - began_s
        assert len(running) == 4 and await take(worker) == ["b0"]
        assert took_s < 0.5, "the flood is moved aside once"
        assert len(await take(worker, 3)) == 1, "while jobs are held one at a time is at hand"
        await queue(api, "b1", "b")
        await queue(api, "c0", "c")
        assert (await api.producer.place("b1", "chat")).num_before in (0, 1)
        assert sorted(await take(worker) + await take(worker)) == ["b1", "c0"]
        assert (await api.producer.place("a999", "chat")).num_before == 1000 - 6
        for first in range(0, 1000, 50):
            await asyncio.gather(*(api.producer.cancel(f"a{number:03}", "test") for number in range(first, first + 50)))
        for job_id in ("b0", "b1", "c0"):
            await api.producer.cancel(job_id, "test")
        await nothing_is_left(api)
        await api.check_accounting(accepted=1003, cancelled=1003)


async def test_turns_follow_the_weights(api: ApiSide, worker: JobConsumer) -> None:
    for number in range(12):
        for tenant, weight in (("a", 1), ("b", 3), ("c", 2)):
            await queue(api, f"{tenant}{number:02}", tenant, weight)
    taken = await take_all(worker)
    for count in (6, 12, 18, 24):
        of = {tenant: sum(job_id[0] == tenant for job_id in taken[:count]) for tenant in "abc"}
        for tenant, weight in (("a", 1), ("b", 3), ("c", 2)):
            assert abs(of[tenant] - count * weight / 6) <= 1, (count, of)
    for tenant in "abc":
        own = [job_id for job_id in taken if job_id[0] == tenant]
        assert own == sorted(own) and len(own) == 12
    assert not await api.redis.hgetall("{viscpm}:shares"), "what nobody waits for is forgotten"


async def test_single_jobs_of_many_tenants_go_in_their_order(api: ApiSide, worker: JobConsumer) -> None:
    await queue(api, "running", "z")
    assert await take(worker) == ["running"]
    for number, tenant in enumerate("edcba"):
        await queue(api, f"{number}", tenant)
    assert (await api.producer.place("3", "chat")).num_before == 3
    assert await take_all(worker) == ["0", "1", "2", "3", "4"]


async def test_a_tenant_alone_is_handed_all_there_is_room_for(api: ApiSide, worker: JobConsumer) -> None:
    for number in range(6):
        await queue(api, f"a{number}", "a")
    assert await api.redis.xlen(STREAM) == 6 and not await api.redis.exists("{viscpm}:held")
    assert await take(worker, 4) == ["a0", "a1", "a2", "a3"]


async def test_jobs_without_keys_keep_their_order_and_hold_up_no_held_ones(api: ApiSide, worker: JobConsumer) -> None:
    for number in range(2):
        await queue(api, f"plain{number}", "default", is_keyed=False)
    for number in range(2):
        await queue(api, f"a{number}", "a")
        await queue(api, f"b{number}", "b")
    taken = await take_all(worker)
    assert (await api.producer.sweep()).overdue == 0
    taken += await take_all(worker)
    assert taken[:2] == ["plain0", "plain1"] and sorted(taken[2:]) == ["a0", "a1", "b0", "b1"]


async def test_an_idle_worker_wakes_for_each(api: ApiSide, settings: Settings) -> None:
    workers = [api.consumer(settings, f"w{number}") for number in range(3)]
    await take(workers[0])
    waiting = [asyncio.create_task(one.take(2, lambda: 0, 5.0)) for one in workers]
    await asyncio.sleep(0.1)
    for tenant in "abc":
        await queue(api, tenant, tenant)
    async with asyncio.timeout(3.0):
        taken = [delivery for task in waiting for delivery in await task]
    assert sorted(delivery.job_id for delivery in taken) == ["a", "b", "c"]
    assert all([worker.is_claimed(delivery.claim) for worker, delivery in zip(workers, taken, strict=True)
                if delivery.claim is not None and await asyncio.wait([delivery.claim])])  # fmt: skip


async def test_a_worker_that_dies_before_its_claim_holds_nobody_up(api: ApiSide, settings: Settings) -> None:
    worker, heir = api.consumer(settings), api.consumer(settings, "heir")
    await take(worker)
    for number in range(3):
        await queue(api, f"a{number}", "a")
        await queue(api, f"b{number}", "b")
    entries = await worker._waiting.take(1, 0.05)  # and nothing more is heard of it
    assert len(entries) == 1 and await take(heir) == []
    await api.producer.sweep()
    taken = await take_all(heir)
    assert len(taken) == 5
    assert await worker.release("w1") == 1
    [recovered] = await heir.recover(1, 0)
    assert recovered.job_id == entries[0].fields[1].decode() and recovered.number == 1
    assert sorted([*taken, recovered.job_id]) == ["a0", "a1", "a2", "b0", "b1", "b2"]


async def test_a_job_that_was_held_is_given_back_and_taken_over_as_others_are(
    api: ApiSide, worker: JobConsumer, settings: Settings
) -> None:
    for number in range(3):
        await queue(api, f"a{number}", "a")
    await queue(api, "b", "b")
    [held] = await worker.take(1, lambda: 1, 0.05)
    assert held.job_id == "b" and await worker.renew([held]) == []
    await worker.requeue(held, False, False)
    [again] = await worker.recover(1, 0)
    assert again.job_id == "b"
    assert await worker.release("w1") == 1
    [over] = await api.consumer(settings, "heir").recover(1, 0)
    assert (over.job_id, over.number) == ("b", 2) and await worker.renew([again]) == [again]
    await generate(worker, over)
    await api.producer.finish("b", Ending("done"))
    assert await take_all(worker) == ["a0", "a1", "a2"]


async def test_the_next_one_is_cancelled_and_another_takes_its_place(api: ApiSide, worker: JobConsumer) -> None:
    for number in range(2):
        await queue(api, f"a{number}", "a")
        await queue(api, f"b{number}", "b", priority="batch")
        await queue(api, f"c{number}", "c")
        await queue(api, f"d{number}", "d", priority="batch")
    assert (await api.producer.place("d1", "chat")).num_before == 7
    [[_, fields]] = await api.redis.xrange(STREAM)
    await api.producer.cancel(fields[b"id"].decode(), "test")
    taken = await take_all(worker)
    assert len(taken) == 7 and fields[b"id"].decode() not in taken
    assert set(taken[:3]) < {"a0", "a1", "c0", "c1"}


async def test_what_is_held_back_past_its_deadline_ends(redis_url: str) -> None:
    async with api_side(quick_settings(redis_url, chat_deadline_s=0.01)) as api:
        for number in range(3):
            await queue(api, f"a{number}", "a")
            await queue(api, f"b{number}", "b")
        await asyncio.sleep(0.05)
        await api.redis.zadd("{viscpm}:slots:chat", {f"{one}{number}": 1.0 for one in "ab" for number in range(3)})
        assert (await api.producer.sweep()).overdue == 6
        await nothing_is_left(api)
        await api.check_accounting(accepted=6, cancelled=6)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
async def test_random_arrivals_are_served_by_weight_in_order_and_without_loss(
    api: ApiSide, worker: JobConsumer, seed: int
) -> None:
    """While two tenants wait without a break, their turns by weight differ by no more than one of each."""
    chance = random.Random(seed)
    weights = {tenant: chance.choice([1, 2, 3, 5]) for tenant in "abcd"}
    waiting: dict[str, list[str]] = {tenant: [] for tenant in weights}
    served: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    started = ended = 0

    async def take_next() -> None:
        nonlocal ended
        [job_id] = await take(worker)
        tenant = job_id[0]
        assert waiting[tenant][0] == job_id, "a tenant's jobs are taken in their order"
        backlogged = {name for name, jobs in waiting.items() if jobs}
        waiting[tenant].pop(0)
        for pair in combinations(sorted(weights), 2):
            if not set(pair) <= backlogged:
                served.pop(pair, None)
                continue
            if tenant in pair:
                served[pair][pair.index(tenant)] += 1
            (one, other), (first, second) = served[pair], pair
            most = 1 / weights[first] + 1 / weights[second] + 1e-9
            assert abs(one / weights[first] - other / weights[second]) <= most, (pair, weights, served[pair])
        ended += await api.producer.cancel(job_id, "test")

    for _ in range(110):
        roll, num_waiting = chance.random(), sum(map(len, waiting.values()))
        if roll < 0.5:
            tenant = chance.choice(sorted(weights))
            job_id = f"{tenant}{started:04}"
            await queue(api, job_id, tenant, weights[tenant])
            waiting[tenant].append(job_id)
            started += 1
        elif roll < 0.58 and num_waiting:
            jobs = chance.choice([jobs for jobs in waiting.values() if jobs])
            ended += await api.producer.cancel(jobs.pop(chance.randrange(len(jobs))), "test")
        elif num_waiting:
            await take_next()
    while any(waiting.values()):
        await take_next()
    assert await take(worker) == [] and started == ended
    await nothing_is_left(api)
