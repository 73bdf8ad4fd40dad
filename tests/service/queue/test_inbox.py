"""What an API process hears of a job that another one, or a worker, tells it of afterwards."""

import asyncio

import pytest
import redis.asyncio

from service.queue.inbox import MAX_INLINE_BYTES, send_to_inboxes
from service.redis.connection import RedisConnection, RedisServers
from service.redis.keys import Keys
from tests.service.tree import ApiSide, api_side, quick_settings


async def test_large_news_are_pointers_and_nobodys_inbox_is_made(
    client: "redis.asyncio.Redis", servers: RedisServers
) -> None:
    keys, connection = Keys("viscpm"), RedisConnection(servers)
    await client.xadd(keys.inbox("a"), {"j": ""})
    for size_bytes in (MAX_INLINE_BYTES, MAX_INLINE_BYTES + 1):
        await send_to_inboxes(connection, keys, ["a", "gone"], "job", b"1-1", b"x" * size_bytes)
    [_, (_, inline), (_, pointer)] = await client.xrange(keys.inbox("a"))
    assert inline == {b"j": b"job", b"p": b"1-1", b"d": b"x" * MAX_INLINE_BYTES}
    assert pointer[b"d"] == b"" and not await client.exists(keys.inbox("gone"))
    await connection.close()


async def test_an_ending_reaches_who_waits_in_another_process(redis_url: str) -> None:
    async with api_side(quick_settings(redis_url)) as first, api_side(quick_settings(redis_url)) as second:
        job_id = await first.start("echo x")
        async with second.producer.subscribe(job_id) as watch:
            waiting = asyncio.ensure_future(anext(watch))
            await asyncio.sleep(0.3)  # its process has asked to be told
            assert await first.producer.cancel(job_id, "client_gone")
            ending = await asyncio.wait_for(waiting, 2)
            assert getattr(ending, "code", "") == "client_gone"


@pytest.mark.slow
async def test_a_dead_jobs_ending_reaches_who_waits(api: ApiSide) -> None:
    settings = quick_settings(api.producer.settings.redis_url, max_deliveries=1, lease_s=0.2, lease_renew_s=0.1)
    worker = api.consumer(settings, "first")
    await worker.take(1, lambda: 0, 0.05)
    job_id = await api.start("echo x")
    await worker.take(1, lambda: 0, 0.1)
    async with api.producer.subscribe(job_id) as watch:
        waiting = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0.4)
        assert await api.consumer(settings, "second").recover(1, 0) == []
        ending = await asyncio.wait_for(waiting, 2)
        assert "died or hung" in getattr(ending, "message", "")
