"""What the screens found, in Redis, by the content's digest: an LRU with its own byte budget and a time to live.

Findings are kept, not decisions: thresholds and stages are the policy's. A key still names the policy's version and
the screens' weights, so that a changed service starts anew.
"""

from collections.abc import Sequence

import msgspec

from models.jobs import ScreenFinding
from service.core.settings import Settings
from service.redis.connection import RedisConnection
from service.redis.keys import Keys

_ENTRY_BYTES = 600  # what Redis keeps beside a value: its name in two places


class VerdictCache:
    """Every call raises BusUnavailable when Redis does not serve it."""

    def __init__(self, connection: RedisConnection, settings: Settings) -> None:
        self._connection = connection
        self._keys = Keys(settings.redis_prefix).verdict_cache
        self._budget_bytes = settings.verdict_cache_bytes
        self._ttl_ms = settings.verdict_cache_ttl_s * 1000

    async def get(self, version: str, content_key: str) -> list[ScreenFinding] | None:
        data: bytes | None = await self._connection.transition(
            "cache_get", self._keys, _field(version, content_key), self._ttl_ms
        )
        try:
            return None if data is None else _decoder.decode(data)
        except msgspec.DecodeError:  # of another version of this service
            return None

    async def put(self, version: str, content_key: str, findings: Sequence[ScreenFinding]) -> None:
        """Store findings; those used longest ago make room for them."""
        data, field = _encoder.encode(findings), _field(version, content_key)
        await self._connection.transition(
            "cache_put", self._keys, field, data, self._budget_bytes, self._ttl_ms, _ENTRY_BYTES
        )


def _field(version: str, content_key: str) -> str:
    return f"{version}:{content_key}"


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[ScreenFinding])
