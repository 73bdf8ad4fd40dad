"""Vision states in Redis: an LRU by bytes with a time to live."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis.asyncio

from service.core.settings import Settings
from service.queue.vision_cache import VisionCache, picture_key
from service.redis.connection import RedisConnection, RedisServers


@pytest.fixture
async def connection(servers: RedisServers) -> AsyncIterator[RedisConnection]:
    opened = RedisConnection(servers)
    yield opened
    await opened.close()


def cache(connection: RedisConnection, budget_bytes: int = 1000, ttl_s: int = 60) -> VisionCache:
    return VisionCache(connection, Settings(vision_cache_bytes=budget_bytes, vision_cache_ttl_s=ttl_s))


async def stored_bytes(client: "redis.asyncio.Redis") -> int:
    values = await client.hgetall("{viscpm}:vision-cache")
    total = sum(map(len, values.values()))
    assert int(await client.get("{viscpm}:vision-cache:bytes") or 0) == total
    assert set(await client.zrange("{viscpm}:vision-cache:used", 0, -1)) == set(values)
    return total


async def test_what_was_used_longest_ago_makes_room(connection: RedisConnection, client: "redis.asyncio.Redis") -> None:
    states = cache(connection)
    for key in ("a", "b", "c"):
        await states.put(key, key.encode() * 300)
        await asyncio.sleep(0.002)
    assert await states.get("a") == b"a" * 300  # used again
    await asyncio.sleep(0.002)
    await states.put("d", b"d" * 300)
    assert [await states.get(key) for key in ("a", "b", "c", "d")] == [b"a" * 300, b"", b"c" * 300, b"d" * 300]
    await states.put("a", b"A" * 10)  # replaced, not added
    assert await stored_bytes(client) == 610
    await states.put("too large", b"x" * 1001)
    assert await states.get("too large") == b"" and await stored_bytes(client) == 610


@pytest.mark.waiting
async def test_states_expire_and_leave_the_books(connection: RedisConnection, client: "redis.asyncio.Redis") -> None:
    states = cache(connection, ttl_s=1)
    await states.put("a", b"a" * 100)
    await asyncio.sleep(1.1)
    assert await states.get("a") == b""
    await states.put("b", b"b" * 100)
    assert await stored_bytes(client) == 100


@pytest.mark.waiting
async def test_nothing_is_kept_longer_than_told_where_nobody_comes_back(
    connection: RedisConnection, client: "redis.asyncio.Redis"
) -> None:
    await cache(connection, ttl_s=1).put("a", b"a" * 100)
    await asyncio.sleep(1.1)
    assert await client.keys("{viscpm}:vision-cache*") == []


async def test_expiry_is_bounded_work_for_each_call(connection: RedisConnection, client: "redis.asyncio.Redis") -> None:
    states = cache(connection, budget_bytes=10**6, ttl_s=60)
    await asyncio.gather(*(states.put(str(number), b"x") for number in range(500)))
    await client.zadd("{viscpm}:vision-cache:used", {str(number): 1 for number in range(500)})  # all of them long ago
    assert await states.get("7") == b""
    for left in (500 - 64 + 1, 500 - 128 + 2):
        await states.put(f"new {left}", b"x")
        assert await client.hlen("{viscpm}:vision-cache") == left
    for number in range(8):
        await states.put(f"more {number}", b"x")
    assert await stored_bytes(client) == 10


@pytest.mark.parametrize("part", ["", ":used", ":bytes"])
async def test_books_that_somebody_broke_heal(
    connection: RedisConnection, client: "redis.asyncio.Redis", part: str
) -> None:
    states = cache(connection)
    for key in ("a", "b", "c"):
        await states.put(key, b"x" * 300)
    await client.delete("{viscpm}:vision-cache" + part)
    for key in ("d", "e", "f", "g"):
        await states.put(key, b"x" * 300)
    assert await stored_bytes(client) == 900


def test_a_picture_is_named_apart_for_each_tenant() -> None:
    assert picture_key("us", "digest") != picture_key("them", "digest")
    assert picture_key("us", "digest").endswith(":digest") and "us" not in picture_key("us", "digest")


async def test_no_budget_means_no_cache(connection: RedisConnection, client: "redis.asyncio.Redis") -> None:
    await cache(connection, budget_bytes=0).put("a", b"x")
    assert await stored_bytes(client) == 0
