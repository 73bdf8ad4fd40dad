"""What each key has used, day by day (UTC): written with the transitions of its jobs, read here."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import msgspec

from service.core.settings import Settings
from service.redis.connection import RedisConnection, RedisServers
from service.redis.keys import Keys


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Of a job, or of a day. `steps` are denoising steps of all candidates."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    pictures: int = 0
    steps: int = 0


def today() -> str:
    """As it stands in keys: 2026-11-30."""
    return datetime.now(UTC).date().isoformat()


def encode_usage(usage: Usage) -> bytes:
    """As the transitions count it."""
    return _encoder.encode(usage)


class UsageBook:
    """Every call raises BusUnavailable where Redis does not serve it."""

    def __init__(self, redis: RedisServers, settings: Settings) -> None:
        self._connection = RedisConnection(redis)
        self._keys = Keys(settings.redis_prefix)

    async def close(self) -> None:
        await self._connection.close()

    async def read(self, key_ids: Sequence[str], last: date, num_days: int) -> list[tuple[str, str, Usage]]:
        """(key id, day, usage), newest day first, of those on which there was any: `num_days` up to `last`."""
        days = [(last - timedelta(days=back)).isoformat() for back in range(min(num_days, last.toordinal()))]
        asked = [(key_id, day) for day in days for key_id in key_ids]
        found = await asyncio.gather(
            *(self._connection.send("HGETALL", self._keys.usage(key_id, day)) for key_id, day in asked)
        )
        return [
            (key_id, day, Usage(**{name.decode(): int(count) for name, count in counts.items()}))
            for (key_id, day), counts in zip(asked, found, strict=True)
            if counts
        ]


_encoder = msgspec.msgpack.Encoder()
