"""Pages of what a tenant has: ids in a sorted set, by the time at which each was made."""

from typing import Generic, NamedTuple, TypeVar

from service.redis.connection import RedisConnection

_Item = TypeVar("_Item")


class Page(NamedTuple, Generic[_Item]):
    """What is gone meanwhile is passed over, so a page may be shorter than was asked for and not the last."""

    items: list[_Item]
    has_more: bool
    last_id: str | None  # where the next page goes on


async def read_page(
    connection: RedisConnection, index: str, limit: int, after: str, is_newest_first: bool = True
) -> tuple[list[str] | None, bool]:
    """Ids behind `after` (empty: from the first on), and whether there are more; None: `after` is not among them.

    Raises BusUnavailable.
    """
    start, order = 0, ("REV",) if is_newest_first else ()
    if after:
        if is_newest_first:
            rank = await connection.send("ZREVRANK", index, after)
        else:
            rank = await connection.send("ZRANK", index, after)
        if rank is None:
            return None, False
        start = rank + 1
    found = await connection.send("ZRANGE", index, start, start + limit, *order)
    return [one.decode() for one in found[:limit]], len(found) > limit
