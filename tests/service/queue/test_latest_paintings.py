"""Each tenant's latest painting, for a time."""

import redis.asyncio

from service.core.settings import Settings
from service.queue.latest_paintings import LatestPaintings
from service.redis.connection import RedisServers


async def test_each_tenants_latest_is_its_own(servers: RedisServers, client: "redis.asyncio.Redis") -> None:
    latest = LatestPaintings(servers, Settings(paint_deadline_s=7.5, retention_s=10))
    try:
        assert await latest.of("a") is None
        await latest.note("a", "paint-1")
        await latest.note("b", "paint-2")
        await latest.note("a", "paint-3")
        assert (await latest.of("a"), await latest.of("b")) == ("paint-3", "paint-2")
        assert 0 < await client.ttl("{viscpm}:latest-painting:a") <= 18
    finally:
        await latest.close()
