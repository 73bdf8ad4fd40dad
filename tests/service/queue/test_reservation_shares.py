"""A full queue is shared: a tenant that has less than its share of the slots gets one all the same."""

import pytest

from service.access.api_keys import ApiKey
from service.core.errors import QueueFull
from service.queue.record import Priority
from tests.service.tree import ApiSide, api_side, quick_settings


def key(tenant: str, weight: int = 1) -> ApiKey:
    return ApiKey(f"{tenant:0>12}", "app", tenant, ("chat",), b"", 0, weight=weight)


async def reserve(api: ApiSide, tenant: str, count: int, weight: int = 1, priority: Priority = "interactive") -> int:
    """How many of so many are granted."""
    granted = 0
    for number in range(count):
        try:
            await api.producer.reserve("chat", f"{tenant}{number}{priority}", tenant, key(tenant, weight), priority)
            granted += 1
        except QueueFull:
            pass
    return granted


async def test_a_flood_leaves_the_others_their_shares(redis_url: str) -> None:
    async with api_side(quick_settings(redis_url, queue_size=12)) as api:
        assert await reserve(api, "a", 20) == 12, "alone it has them all"
        with pytest.raises(QueueFull, match="all 12 slots of chat are taken, try again later"):
            await api.producer.reserve("chat", "more", "a", key("a"))
        assert await reserve(api, "b", 20) == 6
        with pytest.raises(QueueFull, match="6 of them by this tenant, whose share among 2 tenants is 6"):
            await api.producer.reserve("chat", "more", "b", key("b"))
        with pytest.raises(QueueFull, match="12 of them by this tenant, whose share among 2 tenants is 6"):
            await api.producer.reserve("chat", "more", "a", key("a"))
        with pytest.raises(QueueFull, match="all 12 slots of chat are taken, try"):
            await api.producer.reserve("chat", "more", "default")
        assert await reserve(api, "c", 20, 2) == 6, "half by weight, and no more than twice the slots in all"
        for number in range(12):
            await api.producer.cancel(f"a{number}interactive", "test")
        assert await reserve(api, "d", 5) == 3, "a fourth of twelve"


async def test_slots_that_end_count_no_more_and_batches_share_their_half(redis_url: str) -> None:
    async with api_side(quick_settings(redis_url, queue_size=4)) as api:
        assert await reserve(api, "a", 4) == 4 and await reserve(api, "b", 4) == 2
        for tenant, count in (("a", 4), ("b", 2)):
            for number in range(count):
                await api.producer.cancel(f"{tenant}{number}interactive", "test")
        assert not await api.redis.exists("{viscpm}:tenant_slots")
        assert await reserve(api, "c", 9, priority="batch") == 2
        assert await reserve(api, "d", 9, priority="batch") == 1, "of the two slots that batches may have"
        assert await reserve(api, "c", 9) == 1 and await reserve(api, "e", 9) == 2


async def test_a_slot_whose_record_is_lost_is_taken_from_its_tenant(redis_url: str) -> None:
    async with api_side(quick_settings(redis_url, queue_size=2, slot_lease_s=0.01)) as api:
        assert await reserve(api, "a", 1) == 1
        await api.redis.delete("{viscpm}:job:a0interactive")
        await api.redis.zadd("{viscpm}:slots:chat", {"a0interactive": 1})
        assert (await api.producer.sweep()).lost == 1
        assert not await api.redis.exists("{viscpm}:tenant_slots")
