"""Who is still to be told of an ended job, in Redis: any API process may take a try, under a lease (webhooks.lua)."""

from typing import NamedTuple

from service.core.settings import Settings
from service.redis.connection import RedisConnection, RedisServers
from service.redis.keys import Keys


class WebhookTry(NamedTuple):
    """One try to tell of a job, which this process makes now. `number` counts from 1 on."""

    job_id: str
    url: str
    number: int


class PendingWebhooks:
    """Every call raises BusUnavailable where Redis does not serve it."""

    def __init__(self, redis: RedisServers, settings: Settings) -> None:
        self._connection = RedisConnection(redis)
        self._keys = Keys(settings.redis_prefix)
        # A try ends within its timeout, so nobody else has begun the same while it lasts
        self._lease_ms = int((settings.webhook_timeout_s + settings.lease_s) * 1000)

    async def close(self) -> None:
        await self._connection.close()

    async def due(self, limit: int) -> list[str]:
        """Ids of jobs of which somebody is to be told now."""
        found = await self._connection.transition("webhooks_due", (self._keys.webhooks,), limit)
        return [job_id.decode() for job_id in found]

    async def take(self, job_id: str) -> WebhookTry | None:
        """None: another process was faster, or the job is forgotten."""
        found = await self._connection.transition("webhook_take", self._keys_of(job_id), job_id, self._lease_ms)
        return None if not found else WebhookTry(job_id, found[0].decode(), int(found[1]))

    async def again(self, made: WebhookTry, wait_s: float) -> bool:
        """The next try comes so much later. False: another one has begun meanwhile, as of the two below."""
        return await self._settle(made, int(wait_s * 1000))

    async def end(self, made: WebhookTry) -> bool:
        """No try comes any more."""
        return await self._settle(made, -1)

    async def _settle(self, made: WebhookTry, wait_ms: int) -> bool:
        keys = self._keys_of(made.job_id)
        return bool(await self._connection.transition("webhook_settle", keys, made.job_id, made.number, wait_ms))

    def _keys_of(self, job_id: str) -> tuple[str, str]:
        return self._keys.webhooks, self._keys.job(job_id)
