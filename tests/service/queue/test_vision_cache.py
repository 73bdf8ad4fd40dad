"""Vision states in Redis: an LRU by bytes with a time to live."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis.asyncio

from service.core.settings import Settings
from service.queue.connection import RedisConnection
from service.queue.vision_cache import VisionCache, forget_image, picture_key


@pytest.fixture
async def connection(client: "redis.asyncio.Redis") -> AsyncIterator[RedisConnection]:
    opened = RedisConnection(client)
    yield opened
    await opened.close()


def cache(connection: RedisConnection, budget_bytes: int = 1000, ttl_s: int = 60) -> VisionCache:
    return VisionCache(connection, Settings(vision_cache_bytes=budget_bytes, vision_cache_ttl_s=ttl_s))


async def stored_bytes(client: "redis.asyncio.Redis") -> int:
    total = 0
    for key in await client.keys("vision:*"):
        total += await client.strlen(key)
    assert int(await client.get("vision-cache:bytes") or 0) == total
    assert sum(map(int, await client.hvals("vision-cache:sizes"))) == total
    assert await client.zcard("vision-cache:used") == len(await client.keys("vision:*"))
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


async def test_states_expire_and_leave_the_books(connection: RedisConnection, client: "redis.asyncio.Redis") -> None:
    states = cache(connection, ttl_s=1)
    await states.put("a", b"a" * 100)
    await asyncio.sleep(1.1)
    assert await states.get("a") == b""
    await states.put("b", b"b" * 100)
    assert await stored_bytes(client) == 100


async def test_a_picture_is_forgotten_under_every_model_of_its_tenant_alone(
    connection: RedisConnection, client: "redis.asyncio.Redis"
) -> None:
    states = cache(connection)
    ours, theirs = picture_key("us", "digest"), picture_key("them", "digest")
    assert ours != theirs
    keys = [f"f1:float32:{ours}", f"f1:float16:{ours}", f"f1:float32:{theirs}"]
    for number, key in enumerate(keys):
        await states.put(key, b"%d" % number)
    await forget_image(connection, ours)
    assert [await states.get(key) for key in keys] == [b"", b"", b"2"]
    assert await stored_bytes(client) == 1


async def test_no_budget_means_no_cache(connection: RedisConnection, client: "redis.asyncio.Redis") -> None:
    await cache(connection, budget_bytes=0).put("a", b"x")
    assert await stored_bytes(client) == 0
