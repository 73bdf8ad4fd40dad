"""Vision states in Redis, shared by the chat workers: an LRU with its own byte budget and a time to live.

A state is found only under the model that computed it (fingerprint and dtype) and its key, which holds the tenant's
salt and the digest of the pixels.
"""

from models.jobs import ModelDescription
from service.link import Link
from service.settings import Settings


class VisionCache:
    """Every call raises BusUnavailable when Redis does not serve it."""

    def __init__(self, link: Link, settings: Settings, model: ModelDescription) -> None:
        self._link = link
        self._prefix = f"vision:{model.fingerprint}:{model.dtype}:"
        self._budget_bytes = settings.vision_cache_bytes
        self._ttl_ms = settings.vision_cache_ttl_s * 1000

    async def get(self, state_key: str) -> bytes:
        """The state, empty when there is none."""
        data: bytes | None = await self._link.step("state_get", self._prefix + state_key, self._ttl_ms)
        return data or b""

    async def put(self, state_key: str, data: bytes) -> None:
        """Store a state; those used longest ago make room for it."""
        if len(data) <= self._budget_bytes:
            await self._link.step("state_put", self._prefix + state_key, data, self._budget_bytes, self._ttl_ms)


async def forget_state(link: Link, state_key: str) -> None:
    """Remove a picture's state under every model. Raises BusUnavailable."""
    await link.step("state_forget", ":" + state_key)
