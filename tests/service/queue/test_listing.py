"""Where a job is, and which ones a tenant has, against a real server."""

import pytest

from service.core.errors import JobNotFound
from service.core.settings import Settings
from service.jobs.intents import SafetyIntent
from service.queue.record import Ending
from tests.service.queue.deliveries import generate, take_one
from tests.service.tree import ApiSide, make_job


async def queued(api: ApiSide, job_id: str, tenant: str = "t") -> None:
    await api.producer.reserve("chat", job_id, tenant)
    await api.producer.submit(make_job("chat", job_id, "echo x"), SafetyIntent())


async def test_places_count_those_that_wait_and_not_those_in_work(api: ApiSide, settings: Settings) -> None:
    for number in range(4):
        await queued(api, f"job-{number}")
    assert [(await api.producer.place(f"job-{n}", "chat")).num_before for n in range(4)] == [0, 1, 2, 3]
    consumer = api.consumer(settings)
    await take_one(consumer)
    place = await api.producer.place("job-3", "chat")
    assert (place.num_before, place.num_in_work, place.run_s) == (2, 1, None)
    assert (await api.producer.place("job-0", "chat")).num_before is None, "it does not wait"
    await api.producer.cancel("job-1", "test")
    assert (await api.producer.place("job-3", "chat")).num_before == 1


async def test_a_job_that_was_given_back_is_next(api: ApiSide, settings: Settings) -> None:
    await queued(api, "first")
    await queued(api, "second")
    consumer = api.consumer(settings)
    await take_one(consumer)
    delivery = await take_one(consumer)
    await consumer.requeue(delivery, False, False)
    assert (await api.producer.place("second", "chat")).num_before == 0


async def test_runs_are_measured(api: ApiSide, settings: Settings) -> None:
    consumer = api.consumer(settings)
    for number, expected_ms in ((0, 5000), (1, 4200)):
        await queued(api, f"job-{number}")
        delivery = await take_one(consumer)
        took_ms = (5000, 1000)[number]
        started_ms = int(await api.redis.hget(f"{{viscpm}}:job:job-{number}", "started_ms"))
        await api.redis.hset(f"{{viscpm}}:job:job-{number}", "started_ms", started_ms - took_ms)
        await generate(consumer, delivery)
        assert int(await api.redis.hget("{viscpm}:run_times", "chat")) == pytest.approx(expected_ms, abs=400)
    place = await api.producer.place("job-1", "chat")
    assert place.run_s == pytest.approx(4.2, abs=0.4)


async def test_pages_hold_each_job_of_the_tenant_once(api: ApiSide) -> None:
    for number in range(25):
        await api.producer.reserve("paint" if number % 2 else "chat", f"job-{number:02}", "t")
    await api.producer.reserve("chat", "another's", "other")
    await api.producer.reserve("safety", "nobody's", "t")
    told: list[str] = []
    after, has_more, pages = "", True, 0
    while has_more:
        page = await api.producer.jobs_of("t", 10, after)
        told += [job.job_id for job in page.jobs]
        after, has_more, pages = page.last_id or "", page.has_more, pages + 1
    assert pages == 3 and sorted(told, reverse=True) == [f"job-{number:02}" for number in reversed(range(25))]
    assert len(told) == 25 and {job.kind for job in page.jobs} == {"chat", "paint"}
    with pytest.raises(JobNotFound, match='no job "another\'s"'):
        await api.producer.jobs_of("t", 10, "another's")


async def test_what_can_be_read_no_more_is_listed_no_more(api: ApiSide, settings: Settings) -> None:
    for job_id in ("a", "b"):
        await api.producer.reserve("chat", job_id, "t")
    await api.producer.finish("a", Ending("failed"))
    await api.redis.delete("{viscpm}:job:a")  # its retention is over
    assert [job.job_id for job in (await api.producer.jobs_of("t", 10)).jobs] == ["b"]
    kept_ms = (settings.chat_deadline_s + settings.retention_s + 60) * 1000
    assert await api.redis.pttl("{viscpm}:tenant_jobs:t") == pytest.approx(kept_ms, abs=5000)
    await api.redis.zadd("{viscpm}:tenant_jobs:t", {"a": 1.0})
    await api.producer.reserve("chat", "c", "t")
    assert await api.redis.zscore("{viscpm}:tenant_jobs:t", "a") is None
    assert (await api.producer.jobs_of("nobody", 10)).last_id is None
