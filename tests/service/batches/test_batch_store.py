"""Batches in Redis: one process at a time, each line once, and nothing heard of who lost the lease."""

import asyncio

import pytest
import redis.asyncio

from service.batches.batch_store import Batch, BatchStore, HeldBatch, LeaseLost
from service.batches.files import Files
from service.batches.lines import LineError
from service.core.errors import BatchNotFound, FileNotFound, InvalidRequest, RateLimited
from service.core.settings import Settings
from service.redis.connection import RedisServers

BATCHES = "{viscpm}:batches"


async def create(files: Files, batches: BatchStore, tenant: str = "t", **more: object) -> Batch:
    kept = await files.put(tenant, "in", "batch", b"1\n2\n3\n", 3600)
    return await batches.create(tenant, "", "/chat", kept.id, 3, [], **more)  # type: ignore[arg-type]


async def taken(batches: BatchStore) -> HeldBatch:
    held = await batches.take()
    assert held is not None
    return held


async def test_a_batch_is_its_tenants_own_and_listed(files: Files, batches: BatchStore) -> None:
    batch = await create(files, batches, metadata={"order": "4711"})
    assert (batch.status, batch.total, batch.completed, batch.failed) == ("in_progress", 3, 0, 0)
    assert batch.expires - batch.created == 86_400 and batch.request.metadata == {"order": "4711"}
    assert await batches.get("t", batch.request.id) == batch
    assert (await batches.page("t", 5, "")).items == [batch] and (await batches.page("u", 5, "")).items == []
    for call in (batches.get, batches.cancel):
        with pytest.raises(BatchNotFound):
            await call("u", batch.request.id)
    with pytest.raises(BatchNotFound):
        await batches.page("t", 5, "batch_none")
    with pytest.raises(FileNotFound):
        await batches.create("u", "", "/chat", batch.request.input_file_id, 3, [])


async def test_one_process_has_it_until_its_lease_ends(
    files: Files, batches: BatchStore, client: "redis.asyncio.Redis"
) -> None:
    batch = await create(files, batches)
    found = await asyncio.gather(*(batches.take() for _ in range(10)))
    [held] = [one for one in found if one is not None]
    assert held.request == batch.request
    state = await batches.renew(held)
    assert state.status == "in_progress" and 86_000 < state.left_s <= 86_400 and state.num_waiting == 0
    await client.zadd(BATCHES, {f"t:{batch.request.id}": 1})  # the lease ran out
    assert (await batches.renew(held)).num_waiting == 0, "nobody took it: it is the same lease"
    await client.zadd(BATCHES, {f"t:{batch.request.id}": 1})
    other = await taken(batches)
    for late in (batches.renew(held), batches.record(held, 0, "completed", b"x\n"), batches.end(held, "completed")):
        with pytest.raises(LeaseLost):
            await late
    assert (await batches.get("t", batch.request.id)).status == "in_progress"
    await batches.end(other, "completed")
    assert await batches.take() is None


async def test_a_line_has_one_result_and_the_next_process_knows(files: Files, batches: BatchStore) -> None:
    batch = await create(files, batches)
    held = await taken(batches)
    for _ in range(2):
        assert await batches.record(held, 1, "completed", b"one\n")
    assert await batches.record(held, 2, "failed", b"two\n")
    await batches.give_up(held)
    with pytest.raises(LeaseLost):
        await batches.record(held, 0, "completed", b"x\n")
    other = await taken(batches)
    assert [other.is_done(number) for number in (0, 1, 2, 3, 100)] == [False, True, True, False, False]
    await batches.record(other, 0, "completed", b"nil\n")
    await batches.end(other, "completed")
    ended = await batches.get("t", batch.request.id)
    assert (ended.status, ended.completed, ended.failed) == ("completed", 2, 1) and "completed" in ended.times
    assert await files.content("t", batch.request.output_file_id) == [b"one\n", b"nil\n"]
    assert await files.content("t", batch.request.error_file_id) == [b"two\n"]
    output = await files.get("t", batch.request.output_file_id)
    assert (output.size_bytes, output.purpose) == (8, "batch_output")


async def test_those_that_were_given_up_wait_behind_others(files: Files, batches: BatchStore) -> None:
    first = await create(files, batches)
    held = await taken(batches)
    second = await create(files, batches, "u")
    assert (await batches.renew(held)).num_waiting == 1
    await asyncio.sleep(0.005)  # times are milliseconds
    await batches.give_up(held)
    assert [(await taken(batches)).request for _ in range(2)] == [second.request, first.request]


async def test_results_keep_to_the_budgets(files: Files, servers: RedisServers, settings: Settings) -> None:
    batches = BatchStore(servers, settings.model_copy(update={"tenant_file_bytes": 2000}))
    batch = await create(files, batches)
    held = await taken(batches)
    assert await batches.record(held, 0, "completed", b"x" * 500)
    assert not await batches.record(held, 1, "completed", b"x" * 500)
    assert not await batches.record(held, 1, "failed", b"x")
    await batches.end(held, "failed", [LineError("storage_full", "no room")])
    ended = await batches.get("t", batch.request.id)
    assert (ended.status, ended.completed, ended.errors[0].code) == ("failed", 1, "storage_full")
    await batches.close()


async def test_a_wrong_file_gives_a_batch_that_has_failed(
    files: Files, batches: BatchStore, client: "redis.asyncio.Redis"
) -> None:
    kept = await files.put("t", "in", "batch", b"x", 3600)
    batch = await batches.create("t", "", "/chat", kept.id, 1, [LineError("invalid_json_line", "x", None, 1)])
    assert batch.status == "failed" and batch.errors[0].line == 1 and "failed" in batch.times
    assert await batches.take() is None
    assert 0 < await client.ttl(f"{{viscpm}}:batch:t:{batch.request.id}") <= 604_800
    await files.delete("t", kept.id)


async def test_only_what_is_in_progress_can_be_cancelled(files: Files, batches: BatchStore) -> None:
    batch = await create(files, batches)
    for _ in range(2):
        assert (await batches.cancel("t", batch.request.id)).status == "cancelling"
    held = await taken(batches)
    assert (await batches.renew(held)).status == "cancelling"
    await batches.end(held, "cancelled")
    with pytest.raises(InvalidRequest, match="is cancelled"):
        await batches.cancel("t", batch.request.id)


async def test_a_tenant_has_a_thousand_at_most(
    files: Files, batches: BatchStore, client: "redis.asyncio.Redis"
) -> None:
    batch = await create(files, batches)
    now_ms = batch.created * 1000
    await client.zadd("{viscpm}:tenant_batches:t", {f"batch_{number}": now_ms for number in range(999)})
    with pytest.raises(RateLimited, match="1000 batches"):
        await create(files, batches)
    assert (await create(files, batches, "u")).status == "in_progress"
    await client.zadd("{viscpm}:tenant_batches:t", {"batch_7": 1})  # ended long ago
    assert (await create(files, batches)).status == "in_progress"
