"""Files: kept byte for byte, within budgets that are given back to the byte, and nobody else's."""

import asyncio

import pytest
import redis.asyncio

from service.batches.batch_store import BatchStore
from service.batches.files import FILE_BYTES, Files
from service.core.errors import ContentTooLarge, FileInUse, FileNotFound, InvalidRequest, StorageFull
from service.core.settings import Settings
from service.redis.connection import RedisServers

TTL_S = 3600
CONTENTS = [b"", b"a", b"a\n", b"a\n\nb\r\nc", b"\n\n", b"\xff\x00\n" * 3000, b"x" * 3_000_000 + b"\ny"]


async def read(files: Files, tenant: str, file_id: str) -> bytes:
    return b"".join([piece async for piece in files.lines(tenant, file_id)])


@pytest.mark.parametrize("content", CONTENTS, ids=range(len(CONTENTS)))
async def test_what_comes_in_comes_out(files: Files, content: bytes) -> None:
    kept = await files.put("t", "a.jsonl", "batch", content, TTL_S)
    assert (kept.size_bytes, kept.name, kept.purpose) == (len(content), "a.jsonl", "batch")
    assert kept.expires - kept.created == TTL_S and await files.get("t", kept.id) == kept
    assert await read(files, "t", kept.id) == content == b"".join(await files.content("t", kept.id))
    assert await files.line("t", kept.id, 0) == (content.split(b"\n")[0] + b"\n" * (b"\n" in content) or None)


async def test_a_file_is_its_tenants_own(files: Files) -> None:
    kept = await files.put("t", "a", "batch", b"x", TTL_S)
    for tenant, file_id in (("u", kept.id), ("t", "file-none"), ("t:u", kept.id)):
        with pytest.raises(FileNotFound):
            await files.get(tenant, file_id)
        with pytest.raises(FileNotFound):
            await files.delete(tenant, file_id)
    assert (await files.page("u", 10, "")).items == []
    await files.delete("t", kept.id)
    with pytest.raises(FileNotFound):
        await files.get("t", kept.id)


async def test_pages_go_on_where_the_last_one_ended(files: Files) -> None:
    kept = [(await files.put("t", str(number), "batch", b"x", TTL_S)).id for number in range(5)]
    first = await files.page("t", 2, "", is_newest_first=False)
    second = await files.page("t", 3, first.last_id or "", is_newest_first=False)
    assert {one.id for one in (*first.items, *second.items)} == set(kept)
    assert (first.has_more, second.has_more) == (True, False)
    newest = await files.page("t", 10, "")
    assert [one.id for one in newest.items] == [one.id for one in (*first.items, *second.items)][::-1]
    with pytest.raises(FileNotFound):
        await files.page("t", 2, "file-none")


async def test_what_has_no_room_is_refused_and_nothing_else_makes_it(
    servers: RedisServers, settings: Settings, client: "redis.asyncio.Redis"
) -> None:
    budgets = {"file_bytes": 3 * (FILE_BYTES + 100), "tenant_file_bytes": 2 * (FILE_BYTES + 100)}
    files = Files(servers, settings.model_copy(update=budgets))
    with pytest.raises(ContentTooLarge, match="VISCPM_TENANT_FILE_BYTES"):
        await files.put("t", "a", "batch", b"x" * 2000, TTL_S)
    kept = [await files.put("t", "a", "batch", b"x" * 100, TTL_S) for _ in range(2)]
    with pytest.raises(StorageFull, match="your files"):
        await files.put("t", "a", "batch", b"x", TTL_S)
    await files.put("u", "a", "batch", b"x" * 100, TTL_S)
    with pytest.raises(StorageFull, match="all files"):
        await files.put("v", "a", "batch", b"x", TTL_S)
    await files.delete("t", kept[0].id)
    await files.put("v", "a", "batch", b"x" * 100, TTL_S)
    assert await client.hgetall("{viscpm}:file_bytes") == {b"*": b"1836", b"t": b"612", b"u": b"612", b"v": b"612"}
    assert await read(files, "t", kept[1].id) == b"x" * 100
    await files.close()


async def test_many_at_once_never_exceed_the_budget(servers: RedisServers, settings: Settings) -> None:
    files = Files(servers, settings.model_copy(update={"file_bytes": 10 * (FILE_BYTES + 10)}))
    told = await asyncio.gather(
        *(files.put(f"t{number}", "a", "batch", b"x" * 10, TTL_S) for number in range(30)), return_exceptions=True
    )
    assert sum(isinstance(one, StorageFull) for one in told) == 20
    await files.close()


async def test_too_many_lines_are_refused_before_they_are_parted(servers: RedisServers, settings: Settings) -> None:
    files = Files(servers, settings.model_copy(update={"batch_max_lines": 10}))
    with pytest.raises(InvalidRequest, match="has 11 lines, at most 10"):
        await files.put("t", "a", "batch", b"\n" * 11, TTL_S)
    await files.close()


async def test_what_has_expired_is_swept_and_its_room_is_free(files: Files, client: "redis.asyncio.Redis") -> None:
    kept = await files.put("t", "a", "batch", b"x\ny", TTL_S)
    assert await files.sweep() == 0
    await client.zadd("{viscpm}:files", {f"t:{kept.id}": 1})
    assert await files.sweep() == 1
    assert await client.hget("{viscpm}:file_bytes", "*") == b"0"
    assert sorted(await client.keys("*file*")) == [b"{viscpm}:file_bytes"]


async def test_what_a_batch_reads_stays(files: Files, batches: BatchStore, client: "redis.asyncio.Redis") -> None:
    kept = await files.put("t", "a", "batch", b"x", TTL_S)
    await batches.create("t", "", "/chat", kept.id, 1, [])
    with pytest.raises(FileInUse, match="cancel"):
        await files.delete("t", kept.id)
    await client.zadd("{viscpm}:files", {f"t:{kept.id}": 1})
    assert await files.sweep() == 0
    held = await batches.take()
    assert held is not None
    await batches.end(held, "completed")
    await files.delete("t", kept.id)
