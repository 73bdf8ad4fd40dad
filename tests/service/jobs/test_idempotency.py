"""Which job has a key, against a real server: one at a time, and for good once it has an answer."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis.asyncio

from service.core.errors import IdempotencyKeyInUse, IdempotencyKeyReused
from service.core.settings import Settings
from service.jobs.idempotency import EarlierJob, IdempotencyKeys
from service.redis.connection import RedisServers

SETTINGS = Settings(slot_lease_s=0.2, retention_s=60)


@pytest.fixture
async def keys(servers: RedisServers) -> AsyncIterator[IdempotencyKeys]:
    opened = IdempotencyKeys(servers, SETTINGS)
    yield opened
    await opened.close()


async def claim(keys: IdempotencyKeys, job_id: str, tenant: str = "t", body: bytes = b"x") -> EarlierJob | None:
    return await keys.claim(tenant, "key 1", body, job_id, "chat")


async def put(client: "redis.asyncio.Redis", job_id: str, state: str) -> None:
    await client.hset(f"{{viscpm}}:job:{job_id}", "state", state)


async def test_the_first_of_many_has_it(keys: IdempotencyKeys) -> None:
    claims = await asyncio.gather(*(claim(keys, f"job-{i}") for i in range(20)), return_exceptions=True)
    assert claims.count(None) == 1
    assert sum(isinstance(one, IdempotencyKeyInUse) for one in claims) == 19


@pytest.mark.parametrize("state", ["reserved", "queued", "running", "generated"])
async def test_while_its_job_is_in_work_others_come_too_early(
    keys: IdempotencyKeys, client: "redis.asyncio.Redis", state: str
) -> None:
    assert await claim(keys, "a") is None
    await put(client, "a", state)
    await asyncio.sleep(0.25)
    with pytest.raises(IdempotencyKeyInUse, match="still being answered") as early:
        await claim(keys, "b")
    assert early.value.retry_after_s == 1
    assert await keys.claim("t", "key 1", b"x", "b", "chat", is_awaited=False) == EarlierJob("a", False)


@pytest.mark.parametrize("state", ["done", "refused"])
async def test_an_answer_is_every_later_requests(
    keys: IdempotencyKeys, client: "redis.asyncio.Redis", state: str
) -> None:
    assert await claim(keys, "a") is None
    await put(client, "a", state)
    for _ in range(2):
        assert await claim(keys, "b") == EarlierJob("a", True)
    with pytest.raises(IdempotencyKeyReused, match="'key 1' was used for another request"):
        await claim(keys, "b", body=b"y")
    assert await claim(keys, "c", tenant="other") is None, "keys are each tenant's own"


@pytest.mark.parametrize("state", ["failed", "cancelled"])
async def test_what_has_no_answer_is_tried_again(
    keys: IdempotencyKeys, client: "redis.asyncio.Redis", state: str
) -> None:
    assert await claim(keys, "a") is None
    await put(client, "a", state)
    assert await claim(keys, "b") is None
    with pytest.raises(IdempotencyKeyInUse):
        await claim(keys, "c")


async def test_a_claim_whose_process_died_before_its_job_ends(keys: IdempotencyKeys) -> None:
    assert await claim(keys, "a") is None
    with pytest.raises(IdempotencyKeyInUse):
        await claim(keys, "b")
    await asyncio.sleep(0.25)
    assert await claim(keys, "b") is None


async def test_a_released_key_is_free_and_anothers_is_not_released(keys: IdempotencyKeys) -> None:
    assert await claim(keys, "a") is None
    await keys.release("t", "key 1", "another")
    with pytest.raises(IdempotencyKeyInUse):
        await claim(keys, "b")
    await keys.release("t", "key 1", "a")
    assert await claim(keys, "b", body=b"y") is None


async def test_it_is_kept_as_long_as_its_job_may_be_read(keys: IdempotencyKeys, client: "redis.asyncio.Redis") -> None:
    await claim(keys, "a")
    [record] = await client.keys("{viscpm}:idempotency:t:*")
    assert b"key 1" not in record, "a key may be of any length, and hold anything"
    assert await client.pttl(record) / 1000 == pytest.approx(0.2 + 300 + 60 + 60, abs=5)


async def test_the_job_of_a_key_is_told(keys: IdempotencyKeys) -> None:
    assert await keys.job_of("t", "key 1") is None
    await claim(keys, "a")
    assert await keys.job_of("t", "key 1") == "a" and await keys.job_of("u", "key 1") is None
