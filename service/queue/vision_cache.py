"""Image embeddings in Redis, shared by the chat workers: an LRU with its own byte budget and a time to live.

A key names the model that computed them (fingerprint and dtype, put there by the engine), then the tenant's salt
and the digest of the pixels (`picture_key`).
"""

import hashlib

from service.core.settings import Settings
from service.redis.connection import RedisConnection
from service.redis.keys import Keys


class VisionCache:
    """Every call raises BusUnavailable when Redis does not serve it."""

    def __init__(self, connection: RedisConnection, settings: Settings) -> None:
        self._connection = connection
        self._keys = Keys(settings.redis_prefix).vision_cache
        self._budget_bytes = settings.vision_cache_bytes
        self._ttl_ms = settings.vision_cache_ttl_s * 1000

    async def get(self, image_key: str) -> bytes:
        """The embeddings, empty when there are none."""
        data: bytes | None = await self._connection.transition("cache_get", self._keys, image_key, self._ttl_ms)
        return data or b""

    async def put(self, image_key: str, data: bytes) -> None:
        """Store embeddings; those used longest ago make room for them."""
        if len(data) <= self._budget_bytes:
            await self._connection.transition(
                "cache_put", self._keys, image_key, data, self._budget_bytes, self._ttl_ms, 0
            )


def tenant_salt(tenant: str) -> str:
    """Keeps tenants' pictures apart without naming them."""
    return hashlib.sha256(f"tenant:{tenant}".encode()).hexdigest()[:16]


def picture_key(tenant: str, pixels_sha256: str) -> str:
    """Names a tenant's picture under any model. A conversation that is deleted takes it along (conversations.lua)."""
    return f"{tenant_salt(tenant)}:{pixels_sha256}"
