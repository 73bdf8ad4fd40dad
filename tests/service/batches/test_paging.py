"""Pages of a sorted set: each member once, whatever order and however many were made at the same time."""

import pytest
import redis.asyncio

from service.batches.paging import read_page
from service.redis.connection import RedisConnection


@pytest.mark.parametrize("is_newest_first", [True, False])
async def test_every_id_is_on_one_page(
    connection: RedisConnection, client: "redis.asyncio.Redis", is_newest_first: bool
) -> None:
    await client.zadd("index", {f"id{number}": number // 3 for number in range(10)})
    seen: list[str] = []
    after, has_more = "", True
    while has_more:
        ids, has_more = await read_page(connection, "index", 4, after, is_newest_first)
        assert ids and len(ids) <= 4
        seen += ids
        after = ids[-1]
    expected = [f"id{number}" for number in range(10)]
    assert seen == (expected[::-1] if is_newest_first else expected)


async def test_an_id_that_is_not_there_is_no_beginning(connection: RedisConnection) -> None:
    assert await read_page(connection, "index", 4, "") == ([], False)
    assert await read_page(connection, "index", 4, "id1") == (None, False)
