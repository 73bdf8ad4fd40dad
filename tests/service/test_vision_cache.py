"""Vision states in Redis: an LRU by bytes with a time to live."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis.asyncio

from models.jobs import ModelDescription
from service.link import Link
from service.settings import Settings
from service.vision_cache import VisionCache, forget_state

MODEL = ModelDescription(kind="chat", name="tiny", fingerprint="f1", dtype="float32")


@pytest.fixture
async def link(client: "redis.asyncio.Redis") -> AsyncIterator[Link]:
    opened = Link(client)
    yield opened
    await opened.close()


def cache(link: Link, budget_bytes: int = 1000, ttl_s: int = 60, model: ModelDescription = MODEL) -> VisionCache:
    return VisionCache(link, Settings(vision_cache_bytes=budget_bytes, vision_cache_ttl_s=ttl_s), model)


async def stored_bytes(client: "redis.asyncio.Redis") -> int:
    total = 0
    for key in await client.keys("vision:*"):
        total += await client.strlen(key)
    assert int(await client.get("vision-cache:bytes") or 0) == total
    assert sum(map(int, await client.hvals("vision-cache:sizes"))) == total
    assert await client.zcard("vision-cache:used") == len(await client.keys("vision:*"))
    return total


async def test_what_was_used_longest_ago_makes_room(link: Link, client: "redis.asyncio.Redis") -> None:
    states = cache(link)
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


async def test_states_expire_and_leave_the_books(link: Link, client: "redis.asyncio.Redis") -> None:
    states = cache(link, ttl_s=1)
    await states.put("a", b"a" * 100)
    await asyncio.sleep(1.1)
    assert await states.get("a") == b""
    await states.put("b", b"b" * 100)
    assert await stored_bytes(client) == 100


async def test_a_state_belongs_to_its_model_and_tenant(link: Link, client: "redis.asyncio.Redis") -> None:
    states = cache(link)
    half = ModelDescription(kind="chat", name="tiny", fingerprint="f1", dtype="float16")
    await states.put("tenant1:digest", b"1")
    assert await cache(link, model=half).get("tenant1:digest") == b""
    assert await states.get("tenant2:digest") == b""
    await cache(link, model=half).put("tenant1:digest", b"2")
    await states.put("tenant2:digest", b"3")
    await forget_state(link, "tenant1:digest")
    assert await states.get("tenant1:digest") == await cache(link, model=half).get("tenant1:digest") == b""
    assert await states.get("tenant2:digest") == b"3"
    assert await stored_bytes(client) == 1


async def test_no_budget_means_no_cache(link: Link, client: "redis.asyncio.Redis") -> None:
    await cache(link, budget_bytes=0).put("a", b"x")
    assert await stored_bytes(client) == 0
