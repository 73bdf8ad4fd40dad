"""What is written of a key's days is read again, newest first."""

from datetime import date

import msgspec
import redis.asyncio

from service.access.usage import Usage, UsageBook, encode_usage, today
from service.core.settings import Settings
from service.redis.connection import RedisServers


def test_counts_that_are_none_are_not_written() -> None:
    assert msgspec.msgpack.decode(encode_usage(Usage(pictures=2, steps=100))) == {"pictures": 2, "steps": 100}
    assert date.fromisoformat(today())


async def test_days_are_read_newest_first(servers: RedisServers, client: "redis.asyncio.Redis") -> None:
    book = UsageBook(servers, Settings())
    await client.hset("{viscpm}:usage:a:2026-11-30", mapping={"requests": 3, "prompt_tokens": 9})
    await client.hset("{viscpm}:usage:a:2026-11-28", mapping={"requests": 1})
    await client.hset("{viscpm}:usage:b:2026-11-30", mapping={"pictures": 2})
    await client.hset("{viscpm}:usage:a:2026-11-20", mapping={"requests": 7})
    assert await book.read(["a", "b"], date(2026, 11, 30), 3) == [
        ("a", "2026-11-30", Usage(requests=3, prompt_tokens=9)),
        ("b", "2026-11-30", Usage(pictures=2)),
        ("a", "2026-11-28", Usage(requests=1)),
    ]
    await book.close()
