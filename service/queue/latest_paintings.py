"""Each tenant's latest job of A1111's routes, whose clients ask about the painting, and stop it, without an id."""

import math

from service.core.settings import Settings
from service.redis.connection import RedisConnection, RedisServers
from service.redis.keys import Keys


class LatestPaintings:
    """Every call raises BusUnavailable where Redis does not serve it."""

    def __init__(self, redis: RedisServers, settings: Settings) -> None:
        self._connection = RedisConnection(redis)
        self._keys = Keys(settings.redis_prefix)
        self._kept_s = math.ceil(settings.paint_deadline_s) + settings.retention_s

    async def close(self) -> None:
        await self._connection.close()

    async def note(self, tenant: str, job_id: str) -> None:
        await self._connection.send("SET", self._keys.latest_painting(tenant), job_id, "EX", self._kept_s)

    async def of(self, tenant: str) -> str | None:
        """The job's id; None: there was none lately."""
        job_id: bytes | None = await self._connection.send("GET", self._keys.latest_painting(tenant))
        return None if job_id is None else job_id.decode()
