"""Who is to be told, in a real Redis: with the ending, by one process at a time, as long as the job is known."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from service.core.settings import Settings
from service.jobs.intents import SafetyIntent
from service.queue.record import Ending
from service.redis.connection import open_redis
from service.webhooks.pending import PendingWebhooks
from tests.service.tree import ApiSide, make_job, quick_settings

URL = "https://hooks.example.org/"


@pytest.fixture
def settings(redis_url: str) -> Settings:
    return quick_settings(redis_url, webhook_timeout_s=0.1, lease_s=0.2, lease_renew_s=0.1, retention_s=2)


@pytest.fixture
async def pending(settings: Settings) -> AsyncIterator[PendingWebhooks]:
    opened = PendingWebhooks(open_redis(settings), settings)
    yield opened
    await opened.close()


async def submit(api: ApiSide, job_id: str, url: str = URL) -> None:
    await api.producer.reserve("chat", job_id)
    await api.producer.submit(make_job("chat", job_id, "echo x"), SafetyIntent(), callback_url=url)


async def test_a_job_is_due_with_its_ending_and_not_before(api: ApiSide, pending: PendingWebhooks) -> None:
    await submit(api, "a")
    await submit(api, "silent", url="")
    assert await pending.due(10) == []
    for job_id in ("a", "silent"):
        assert await api.producer.finish(job_id, Ending("failed", "job_failed", "x"))
        assert not await api.producer.finish(job_id, Ending("cancelled", "again", "x"))
    assert await pending.due(10) == ["a"] and await pending.take("silent") is None


@pytest.mark.parametrize("how", ["cancelled", "overdue"])
async def test_however_it_ends(api: ApiSide, pending: PendingWebhooks, how: str) -> None:
    await submit(api, "a")
    if how == "cancelled":
        await api.producer.cancel("a", "deleted")
    else:
        await api.connection.send("ZADD", api.producer.keys.slots("chat"), 1, "a")
        assert (await api.producer.sweep()).overdue == 1
    assert await pending.due(10) == ["a"]


@pytest.mark.slow
async def test_one_process_makes_a_try_and_another_the_one_that_it_died_with(
    api: ApiSide, pending: PendingWebhooks
) -> None:
    await submit(api, "a")
    await api.producer.cancel("a", "deleted")
    taken = await asyncio.gather(*(pending.take("a") for _ in range(10)))
    [first] = [one for one in taken if one is not None]
    assert (first.url, first.number) == (URL, 1) and await pending.due(10) == []
    await asyncio.sleep(0.35)  # its lease: nobody has said what came of it
    second = await pending.take("a")
    assert second is not None and second.number == 2
    assert not await pending.end(first), "late: the second try is under way"
    assert await pending.again(second, 0.1) and await pending.due(10) == []
    await asyncio.sleep(0.12)
    third = await pending.take("a")
    assert third is not None and third.number == 3 and await pending.end(third)
    await asyncio.sleep(0.35)
    assert await pending.due(10) == [] and await pending.take("a") is None


async def test_the_answer_is_kept_until_it_was_told(api: ApiSide, pending: PendingWebhooks) -> None:
    key = api.producer.keys.job("a")
    await submit(api, "a")
    await api.producer.cancel("a", "deleted")
    assert await api.connection.send("PTTL", key) > api.producer.settings.webhook_window_s * 900
    made = await pending.take("a")
    assert made is not None and await pending.end(made)
    assert 1000 < await api.connection.send("PTTL", key) <= 2000, "as long as others"


@pytest.mark.slow
async def test_a_job_that_is_forgotten_is_told_to_nobody(api: ApiSide, pending: PendingWebhooks) -> None:
    await submit(api, "a")
    await api.producer.cancel("a", "deleted")
    await api.connection.transition("forget_ended", api.producer.keys.of_job("a"))
    assert await pending.take("a") is None and await pending.due(10) == []
