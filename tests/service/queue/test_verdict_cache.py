"""Findings of the screens in Redis: by version and content, for a time, within a budget."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis.asyncio

from models.jobs import ScreenFinding
from service.core.settings import Settings
from service.queue.verdict_cache import VerdictCache
from service.redis.connection import RedisConnection, RedisServers

FINDINGS = [
    ScreenFinding(screen="open-nsfw", scores={"sexual": 0.125}),
    ScreenFinding(screen="image-safety-classifier", scores={"sexual": 0.5, "violence/graphic": 0.0}),
]


@pytest.fixture
async def connection(servers: RedisServers) -> AsyncIterator[RedisConnection]:
    opened = RedisConnection(servers)
    yield opened
    await opened.close()


def cache(connection: RedisConnection, budget_bytes: int = 100_000, ttl_s: int = 60) -> VerdictCache:
    return VerdictCache(connection, Settings(verdict_cache_bytes=budget_bytes, verdict_cache_ttl_s=ttl_s))


async def test_findings_come_back_for_the_same_content_and_version_alone(connection: RedisConnection) -> None:
    verdicts = cache(connection)
    await verdicts.put("v1", "red", FINDINGS)
    assert await verdicts.get("v1", "red") == FINDINGS
    assert await verdicts.get("v2", "red") is None and await verdicts.get("v1", "blue") is None
    await verdicts.put("v1", "red", FINDINGS[:1])
    assert await verdicts.get("v1", "red") == FINDINGS[:1]
    await verdicts.put("v1", "clean", [])
    assert await verdicts.get("v1", "clean") == [], "nothing found is known, not unknown"


@pytest.mark.waiting
async def test_findings_expire(connection: RedisConnection) -> None:
    verdicts = cache(connection, ttl_s=1)
    await verdicts.put("v1", "red", FINDINGS)
    await asyncio.sleep(1.1)
    assert await verdicts.get("v1", "red") is None


async def test_small_entries_keep_to_the_budget_by_what_redis_keeps_of_them(
    connection: RedisConnection, client: "redis.asyncio.Redis"
) -> None:
    """The keys weigh more than the findings: counted by these alone, a budget would be a tenth of what is used."""
    verdicts = cache(connection, budget_bytes=10_000)
    for number in range(50):
        await verdicts.put("v1", f"content-{number}", FINDINGS)
    kept = [number for number in range(50) if await verdicts.get("v1", f"content-{number}") is not None]
    assert 10 <= len(kept) <= 16 and kept == list(range(50 - len(kept), 50))
    assert await client.hlen("{viscpm}:verdict-cache") == len(kept)


async def test_what_another_version_of_the_service_wrote_is_not_known(
    connection: RedisConnection, client: "redis.asyncio.Redis"
) -> None:
    await cache(connection).put("v1", "red", FINDINGS)
    for stored in (b"\xc1", b"\x91\x81\xa6screen\x01"):
        await client.hset("{viscpm}:verdict-cache", "v1:red", stored)
        assert await cache(connection).get("v1", "red") is None
