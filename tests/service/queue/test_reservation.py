"""Reservations: limits of API keys in the same step as the slot, exact across API processes; what jobs use."""

import asyncio

import pytest

from models.jobs import ChatJob
from service.access.api_keys import ApiKey, KeyLimits
from service.access.usage import Usage, encode_usage, today
from service.core.errors import BusUnavailable, JobLost, QueueFull, RateLimited
from service.core.settings import Settings
from service.jobs.intents import SafetyIntent
from service.queue.record import Ending, UsageAppend
from tests.service.tree import ApiSide, api_side, eventually, quick_settings


def key(*limits: int, key_id: str = "0123456789ab") -> ApiKey:
    return ApiKey(key_id, "app", "acme", ("chat",), b"", 0, limits=KeyLimits(*limits))


async def usage(api: ApiSide, key_id: str = "0123456789ab") -> dict[str, int]:
    stored = await api.redis.hgetall(f"{{viscpm}}:usage:{key_id}:{today()}")
    return {name.decode(): int(count) for name, count in stored.items()}


async def test_a_hundred_at_once_on_three_processes_and_ten_pass(redis_url: str) -> None:
    settings = quick_settings(redis_url, queue_size=1000)
    async with api_side(settings) as one, api_side(settings) as two, api_side(settings) as three:
        sides = [one, two, three]
        for limited, why in ((key(10, key_id="a" * 12), "requests"), (key(0, 0, 10, key_id="b" * 12), "jobs")):
            results = await asyncio.gather(
                *(sides[i % 3].producer.reserve("chat", f"{why}-{i}", "acme", limited) for i in range(100)),
                return_exceptions=True,
            )
            refused = [one for one in results if isinstance(one, RateLimited)]
            assert len(refused) == 90 and all(why in error.message for error in refused)
            assert results.count(None) == 10
        assert await usage(one, "a" * 12) == await usage(one, "b" * 12) == {"requests": 10}
        await one.producer.reserve("chat", "of another key", "acme", key(10, key_id="c" * 12))


async def test_a_job_counts_until_it_has_ended_or_lost_its_slot(api: ApiSide, settings: Settings) -> None:
    limited = key(0, 0, 2)
    reservation = api.producer.reserve("chat", "a", "acme", limited)
    await reservation
    assert reservation.key_use is not None and reservation.key_use.jobs == 1
    await api.producer.reserve("paint", "b", "acme", limited)
    with pytest.raises(RateLimited, match="has 2 jobs queued or running, and may have 2"):
        await api.producer.reserve("chat", "c", "acme", limited)
    await api.producer.cancel("a", "test")
    await api.producer.reserve("chat", "d", "acme", limited)
    await api.redis.zadd("{viscpm}:slots:paint", {"b": 1.0})  # its API process died, and nobody has swept yet
    await api.producer.reserve("chat", "e", "acme", limited)


async def scripts_run(api: ApiSide) -> int:
    stats = await api.redis.info("commandstats")
    return int(stats["cmdstat_evalsha"]["calls"])


@pytest.mark.parametrize("limited", [None, key(10, 0, 10)])
async def test_a_job_that_is_queued_at_once_goes_along_with_its_slot(api: ApiSide, limited: ApiKey | None) -> None:
    await api.producer.reserve("chat", "connected", "acme", limited)
    before = await scripts_run(api)
    reservation = api.producer.reserve("chat", "a", "acme", limited)
    await api.producer.submit(ChatJob(job_id="a", question="x"), SafetyIntent())
    assert await scripts_run(api) - before == 1
    await reservation
    assert (reservation.key_use is None) == (limited is None)
    assert await api.state("a") == "queued"
    record = await api.redis.hgetall("{viscpm}:job:a")
    before = await scripts_run(api)
    await api.producer.reserve("chat", "b", "acme", limited)
    await api.producer.submit(ChatJob(job_id="b", question="x"), SafetyIntent())
    assert await scripts_run(api) - before == 2
    assert record.keys() == (await api.redis.hgetall("{viscpm}:job:b")).keys()
    for job_id in ("connected", "a", "b"):
        await api.producer.cancel(job_id, "test_over")
    await api.check_accounting(accepted=3, cancelled=3)


async def test_a_slot_is_asked_for_without_its_job_where_that_takes_a_while(api: ApiSide) -> None:
    reservation = api.producer.reserve("chat", "a")
    await eventually(lambda: api.redis.exists("{viscpm}:job:a"))
    await reservation
    await api.producer.submit(ChatJob(job_id="a", question="x"), SafetyIntent())
    await api.producer.cancel("a", "test_over")
    await api.check_accounting(accepted=1, cancelled=1)


async def test_a_job_that_ends_before_its_slot_is_asked_for_has_had_one(api: ApiSide) -> None:
    api.producer.reserve("chat", "a")
    assert await api.producer.finish("a", Ending("refused"))
    await api.check_accounting(accepted=1, refused=1)


async def test_what_is_forgotten_at_once_takes_no_slot(api: ApiSide) -> None:
    api.producer.reserve("chat", "a")
    api.producer.forget("a")
    await asyncio.sleep(0.02)
    assert await api.producer.depth("chat") == 0
    await api.check_accounting(accepted=0)


@pytest.mark.parametrize(("limited", "error"), [(None, QueueFull), (key(10), QueueFull), (key(1), RateLimited)])
async def test_a_job_that_gets_no_slot_is_not_queued_along(
    redis_url: str, limited: ApiKey | None, error: type[Exception]
) -> None:
    async with api_side(quick_settings(redis_url, queue_size=1)) as api:
        await api.producer.reserve("chat", "a", "acme", limited)
        reservation = api.producer.reserve("chat", "b", "acme", limited)
        with pytest.raises(JobLost):
            await api.producer.submit(ChatJob(job_id="b", question="x"), SafetyIntent())
        with pytest.raises(error):
            await reservation
        assert await api.redis.exists("{viscpm}:job:b", "{viscpm}:jobs:chat") == 0
        await api.producer.cancel("a", "test_over")
        await api.check_accounting(accepted=1, cancelled=1)


async def test_a_server_that_is_away_is_told_to_both_who_asked() -> None:
    async with api_side(quick_settings("redis://127.0.0.1:9")) as api:
        reservation = api.producer.reserve("chat", "a")
        with pytest.raises(BusUnavailable):
            await api.producer.submit(ChatJob(job_id="a", question="x"), SafetyIntent())
        with pytest.raises(BusUnavailable):
            await reservation


async def test_a_minute_ends(api: ApiSide) -> None:
    limited = key(1)
    await api.producer.reserve("chat", "a", "acme", limited)
    with pytest.raises(RateLimited, match="used 1 requests in this minute, and may use 1") as refused:
        await api.producer.reserve("chat", "b", "acme", limited)
    assert 1 <= refused.value.retry_after_s <= 60  # type: ignore[operator]
    assert 0 < await api.redis.pttl("{viscpm}:key_minute:0123456789ab") <= 60_000
    await api.redis.pexpire("{viscpm}:key_minute:0123456789ab", 20)
    await asyncio.sleep(0.05)
    await api.producer.reserve("chat", "b", "acme", limited)


async def test_what_gets_no_slot_counts_for_nothing(redis_url: str) -> None:
    async with api_side(quick_settings(redis_url, queue_size=1)) as api:
        reservation = api.producer.reserve("chat", "a", "acme", key(10))
        await reservation
        full = api.producer.reserve("chat", "b", "acme", key(10))
        with pytest.raises(QueueFull):
            await full
        assert full.key_use is not None and full.key_use.requests == 1
        assert await usage(api) == {"requests": 1}


async def test_tokens_are_counted_once_with_the_ending_and_then_refused(api: ApiSide) -> None:
    limited = key(0, 100)
    await api.producer.reserve("chat", "a", "acme", limited)
    used = UsageAppend(limited.id, encode_usage(Usage(prompt_tokens=70, completion_tokens=40, pictures=1, steps=50)))
    assert await api.producer.finish("a", Ending("refused", "content_filter"), None, used)
    assert not await api.producer.finish("a", Ending("failed", "late"), None, used)
    counted = {"requests": 1, "prompt_tokens": 70, "completion_tokens": 40, "pictures": 1, "steps": 50}
    assert await usage(api) == counted
    with pytest.raises(RateLimited, match="used 110 tokens in this minute, and may use 100"):
        await api.producer.reserve("chat", "b", "acme", limited)
    with pytest.raises(RateLimited):
        await api.producer.take_request(limited)


async def test_a_request_without_a_job_counts_as_one(api: ApiSide) -> None:
    limited = key(2)
    assert (await api.producer.take_request(limited)).requests == 1
    await api.producer.reserve("chat", "a", "acme", limited)
    with pytest.raises(RateLimited):
        await api.producer.take_request(limited)
    assert await usage(api) == {"requests": 2}
    assert 0 < await api.redis.pttl(f"{{viscpm}}:usage:{limited.id}:{today()}") <= 90 * 86_400_000


async def test_without_a_key_nothing_is_counted(api: ApiSide) -> None:
    reservation = api.producer.reserve("chat", "a", "acme")
    await reservation
    assert reservation.key_use is None
    assert not await api.redis.keys("{viscpm}:usage:*") and not await api.redis.keys("{viscpm}:key_*")
