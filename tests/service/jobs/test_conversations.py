"""Conversations in a real Redis: tenants, the busy mark, time to live."""

import asyncio
import gc
from collections.abc import AsyncIterator

import msgspec
import pytest
import redis.asyncio

from models.jobs import Turn
from service.core.errors import BusUnavailable, ConversationBusy, ConversationExpired, ConversationNotFound
from service.core.metrics import Metrics
from service.core.settings import Settings
from service.jobs.conversations import Conversations, new_conversation_id
from service.queue.conversation_record import Conversation, ConversationMeta, StoredTurn
from service.queue.record import TurnAppend
from service.queue.vision_cache import VisionCache, picture_key
from service.redis.connection import RedisConnection, RedisServers, open_redis
from service.redis.keys import Keys

META = ConversationMeta(created=1, model="m", fingerprint="f", image_sha256="ab", image_size_px=2)
PIXELS = bytes(range(12))
META_KEY, TURNS_KEY, PIXELS_KEY, BUSY_KEY, *_ = Keys("viscpm").conversation("a:1")


@pytest.fixture
async def conversations(servers: RedisServers, redis_url: str) -> AsyncIterator[Conversations]:
    store = Conversations(servers, Settings(redis_url=redis_url, conversation_ttl_s=100))
    yield store
    await store.close()


async def begin(
    client: "redis.asyncio.Redis", servers: RedisServers, store: Conversations, tenant: str = "a", number: str = "1"
) -> None:
    """As the queue writes a first turn."""
    append = store.append(tenant, number, StoredTurn("q", "a<b", "a<<b", 5), META)
    assert append.is_new and append.conversation == f"{tenant}:{number}"
    await write(client, servers, append, f"first-{tenant}-{number}")


async def write(
    client: "redis.asyncio.Redis", servers: RedisServers, append: TurnAppend, job_id: str, pixels: bytes = PIXELS
) -> None:
    keys = Keys("viscpm")
    await client.hset(keys.job(job_id), mapping={"state": "generated", "kind": "chat", "retention_ms": "1000"})
    await client.set(keys.pixels(job_id), pixels)
    names = (*keys.of_job(job_id), *keys.conversation(append.conversation), *keys.conversation_books)
    fields = [part for item in append.fields.items() for part in item]
    turn = (
        append.conversation,
        str(int(append.is_new)),
        append.turn,
        append.max_turns,
        append.ttl_s * 1000,
        str(int(append.replaces_last)),
        *fields,
    )
    connection = RedisConnection(servers)
    assert await connection.transition("finish", names, job_id, "done", b"", b"", 0, *turn)
    await connection.close()


async def test_opening_gives_history_pixels_and_a_longer_life(
    client: "redis.asyncio.Redis", servers: RedisServers, conversations: Conversations
) -> None:
    await begin(client, servers, conversations)
    for key in (META_KEY, TURNS_KEY, PIXELS_KEY):
        await client.expire(key, 10)
    opened = await conversations.open("a", "1", "job-1")
    assert opened.meta == META and await client.get(opened.pixels_key) == PIXELS
    assert await conversations.pixels(opened) == PIXELS
    assert [(turn.question, turn.answer) for turn in opened.history()] == [("q", "a<<b")]
    brought = msgspec.structs.replace(opened.meta, earlier=[Turn.of_plain("before", "it")])
    assert [turn.question for turn in msgspec.structs.replace(opened, meta=brought).history()] == ["before", "q"]
    assert await client.get(BUSY_KEY) == b"job-1"
    for key in (META_KEY, TURNS_KEY, PIXELS_KEY):
        assert 90 < await client.ttl(key) <= 100
    shown = await conversations.get("a", "1")
    assert [turn.answer for turn in shown.turns] == ["a<b"] and 90 < shown.expires_in_s <= 100


async def test_tenants_do_not_see_each_other(
    client: "redis.asyncio.Redis", servers: RedisServers, conversations: Conversations
) -> None:
    await begin(client, servers, conversations, tenant="a")
    for call in (
        conversations.open("b", "1", "job"),
        conversations.get("b", "1"),
        conversations.delete("b", "1"),
    ):
        with pytest.raises(ConversationNotFound):
            await call
    assert (await conversations.get("a", "1")).meta.model == "m"


@pytest.mark.parametrize("state", ["reserved", "queued", "running", "generated"])
async def test_a_job_in_work_keeps_the_conversation(
    client: "redis.asyncio.Redis", servers: RedisServers, conversations: Conversations, state: str
) -> None:
    await begin(client, servers, conversations)
    await client.hset("{viscpm}:job:job-1", "state", state)
    await conversations.open("a", "1", "job-1")
    with pytest.raises(ConversationBusy):
        await conversations.open("a", "1", "job-2")
    await conversations.open("a", "1", "job-1")  # its own holder is not in its way


@pytest.mark.parametrize("state", ["done", "refused", "failed", "cancelled", None])
async def test_an_ended_or_forgotten_job_does_not(
    client: "redis.asyncio.Redis", servers: RedisServers, conversations: Conversations, state: str | None
) -> None:
    await begin(client, servers, conversations)
    await conversations.open("a", "1", "job-1")
    if state is not None:
        await client.hset("{viscpm}:job:job-1", "state", state)
    await conversations.open("a", "1", "job-2")
    assert await client.get(BUSY_KEY) == b"job-2"


async def test_deleting_leaves_nothing(
    client: "redis.asyncio.Redis", servers: RedisServers, conversations: Conversations
) -> None:
    await begin(client, servers, conversations)
    await conversations.open("a", "1", "job-1")
    connection = RedisConnection(servers)
    states = VisionCache(connection, Settings())
    await states.put("f:float32:" + picture_key("a", META.image_sha256), b"state")
    await conversations.delete("a", "1")
    await connection.close()
    assert await client.keys("{viscpm}:conversation*") == await client.keys("{viscpm}:vision-cache") == []
    with pytest.raises(ConversationNotFound):
        await conversations.delete("a", "1")


async def test_deleting_forgets_the_picture_under_every_model_of_its_tenant_alone(
    client: "redis.asyncio.Redis", servers: RedisServers, conversations: Conversations
) -> None:
    await begin(client, servers, conversations)
    connection = RedisConnection(servers)
    states = VisionCache(connection, Settings())
    ours, theirs = picture_key("a", META.image_sha256), picture_key("b", META.image_sha256)
    keys = [f"f1:float32:{ours}", f"f1:float16:{ours}", f"f1:float32:{theirs}"]
    for number, key in enumerate(keys):
        await states.put(key, b"%d" % number)
    await conversations.delete("a", "1")
    assert [await states.get(key) for key in keys] == [b"", b"", b"2"]
    assert await client.get("{viscpm}:vision-cache:bytes") == b"1"
    await connection.close()


async def sized(client: "redis.asyncio.Redis") -> int:
    sizes = await client.hgetall("{viscpm}:conversation_sizes")
    assert set(sizes) == set(await client.zrange("{viscpm}:conversations", 0, -1))
    total = sum(map(int, sizes.values()))
    assert int(await client.get("{viscpm}:conversation_bytes") or 0) == total
    return total


async def test_those_used_longest_ago_make_room_as_a_whole_and_are_told_as_expired(
    client: "redis.asyncio.Redis", servers: RedisServers, redis_url: str
) -> None:
    metrics = Metrics("api")
    store = Conversations(servers, Settings(redis_url=redis_url, conversation_bytes=2**20), metrics)
    for number in range(30):
        append = store.append("a", str(number), StoredTurn("q", "a", "a", 5), META)
        await write(client, servers, append, f"job-{number}", bytes(100_000))
        await asyncio.sleep(0.002)
        if number == 20:
            await store.open("a", "3", "job")  # used again
    assert await sized(client) > 3_000_000
    assert await store.make_room() == 20 and await store.make_room() == 0
    assert await sized(client) <= 2**20
    kept = {key.decode().split(":")[3] for key in await client.keys("{viscpm}:conversation:a:*:turns")}
    assert kept == {"3", *map(str, range(21, 30))}
    with pytest.raises(ConversationExpired, match="made room"):
        await store.get("a", "0")
    with pytest.raises(ConversationExpired):
        await store.delete("a", "0")
    with pytest.raises(ConversationNotFound):
        await store.open("b", "0", "job")  # of another tenant
    exposed = metrics.render().decode()
    assert 'viscpm_conversations_dropped_total{reason="budget"} 20.0' in exposed
    assert "viscpm_conversations_bytes " in exposed
    await store.close()


@pytest.mark.waiting
async def test_one_that_expired_by_itself_leaves_the_books(
    client: "redis.asyncio.Redis", servers: RedisServers, redis_url: str
) -> None:
    store = Conversations(servers, Settings(redis_url=redis_url, conversation_ttl_s=1))
    await begin(client, servers, store)
    await asyncio.sleep(1.1)
    with pytest.raises(ConversationExpired, match="not used for 1 s"):
        await store.get("a", "1")
    assert await store.make_room() == 1 and await sized(client) == 0
    with pytest.raises(ConversationExpired):
        await store.open("a", "1", "job")
    await store.close()


async def test_sizes_follow_the_turns_that_are_kept(
    client: "redis.asyncio.Redis", servers: RedisServers, redis_url: str
) -> None:
    store = Conversations(servers, Settings(redis_url=redis_url, conversation_max_turns=2))
    for number in range(5):
        turn = StoredTurn("q" * 1000, "a", "a", 5)
        await write(client, servers, store.append("a", "1", turn, None if number else META), f"job-{number}")
    turns = await client.lrange(TURNS_KEY, 0, -1)
    assert len(turns) == 2 and await sized(client) == sum(map(len, turns)) + len(PIXELS) + 1024
    await store.delete("a", "1")
    assert await sized(client) == 0
    await store.close()


def test_ids_cannot_be_guessed() -> None:
    ids = {new_conversation_id() for _ in range(1000)}
    assert len(ids) == 1000 and all(len(one) == len("conv-") + 24 for one in ids)


@pytest.mark.parametrize("state", ["reserved", "queued", "running", "done"])
async def test_a_turn_in_work_keeps_the_picture_of_a_deleted_conversation(
    client: "redis.asyncio.Redis", servers: RedisServers, conversations: Conversations, state: str
) -> None:
    await begin(client, servers, conversations)
    await conversations.open("a", "1", "job-1")
    await client.hset("{viscpm}:job:job-1", "state", state)
    await conversations.delete("a", "1")
    assert [key async for key in client.scan_iter("{viscpm}:conversation*")] == []
    assert await client.get("{viscpm}:pixels:job-1") == (None if state == "done" else PIXELS)


async def test_redis_away_is_one_error_for_all_that_was_asked_at_once(caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings(redis_url="redis://127.0.0.1:9")
    conversations = Conversations(open_redis(settings), settings)
    with pytest.raises(BusUnavailable):
        await conversations.get("t", "conv-1")
    await asyncio.sleep(0.01)  # the exchange has ended, and holds nothing
    gc.collect()
    assert "never retrieved" not in caplog.text
    await conversations.close()


async def ids_of(store: Conversations, tenant: str = "a", limit: int = 100) -> list[str]:
    """Of all pages of so many."""
    ids: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await store.listed(tenant, limit, cursor)
        assert len(page.conversations) <= limit
        ids += [one.id for one in page.conversations]
        cursor = page.next_cursor
    return ids


async def keep(store: Conversations, number: str, tenant: str = "a") -> None:
    await store.create(tenant, number, Conversation(META, [StoredTurn("q", "a", "a", 5)]), PIXELS)


async def test_pages_hold_each_once_also_of_one_millisecond(
    client: "redis.asyncio.Redis", conversations: Conversations
) -> None:
    for number in range(9):
        await keep(conversations, str(number))
    await keep(conversations, "other", "b")
    await client.zadd("{viscpm}:tenant_conversations:a", {str(number): 1000 + number // 4 for number in range(9)})
    wanted = list("876543210")
    for limit in (1, 2, 3, 5, 9, 100):
        assert await ids_of(conversations, limit=limit) == wanted
    first = await conversations.listed("a", 3)
    await conversations.delete("a", "6")  # what the cursor names
    await conversations.open("a", "0", "job")  # to the front, where the first page was
    assert first.next_cursor is not None
    second = await conversations.listed("a", 100, first.next_cursor)
    assert [one.id for one in second.conversations] == list("54321")
    assert await ids_of(conversations, "b") == ["other"]


async def test_what_expires_or_makes_room_leaves_the_list(
    client: "redis.asyncio.Redis", servers: RedisServers, redis_url: str
) -> None:
    store = Conversations(servers, Settings(redis_url=redis_url, conversation_bytes=2**20))
    for number in range(12):
        append = store.append("a", str(number), StoredTurn("q", "a", "a", 5), META)
        await write(client, servers, append, f"job-{number}", bytes(100_000))
        await asyncio.sleep(0.002)
    assert len(await ids_of(store)) == 12
    assert await store.make_room() == 2
    assert await ids_of(store) == [str(number) for number in range(11, 1, -1)]
    for key in Keys("viscpm").conversation("a:5")[:5]:
        await client.delete(key)  # as its time to live does
    assert "5" not in await ids_of(store, limit=2)
    assert await client.zscore("{viscpm}:tenant_conversations:a", "5") is None, "and the list forgets it"
    await store.close()


async def test_one_that_comes_whole_is_in_the_books(
    client: "redis.asyncio.Redis", servers: RedisServers, conversations: Conversations
) -> None:
    turns = [StoredTurn("q" * 100, "a", "a", number) for number in range(3)]
    await conversations.create("a", "1", Conversation(META, turns, num_gone=4, title="t"), PIXELS)
    kept = await conversations.get("a", "1")
    assert (kept.meta, kept.turns, kept.num_gone, kept.title) == (META, turns, 4, "t")
    assert await conversations.pixels(kept) == PIXELS and 90 < kept.expires_in_s <= 100
    before = await sized(client)
    assert before == 1024 + 1 + len(PIXELS) + sum(map(len, await client.lrange(TURNS_KEY, 0, -1)))
    await conversations.rename("a", "1", "红苹果")
    assert await sized(client) == before - 1 + 9 and (await conversations.get("a", "1")).title == "红苹果"
    await write(client, servers, conversations.append("a", "1", turns[0], None), "job-1")
    assert (await conversations.get("a", "1")).title == "红苹果"
    await conversations.rename("a", "1", "")
    await conversations.delete("a", "1")
    assert await sized(client) == 0 and await client.keys("{viscpm}:*conversation*") == []


async def test_a_turn_may_take_the_last_ones_place(
    client: "redis.asyncio.Redis", servers: RedisServers, conversations: Conversations
) -> None:
    await begin(client, servers, conversations)
    await write(client, servers, conversations.append("a", "1", StoredTurn("two", "old", "old", 6), None), "job-2")
    anew = conversations.append("a", "1", StoredTurn("two", "a longer one", "a longer one", 7), None, None, True)
    await write(client, servers, anew, "job-3", b"")
    kept = await conversations.get("a", "1")
    assert [turn.answer for turn in kept.turns] == ["a<b", "a longer one"] and kept.num_gone == 0
    turns = await client.lrange(TURNS_KEY, 0, -1)
    assert await sized(client) == sum(map(len, turns)) + len(PIXELS) + 1024
    await conversations.delete("a", "1")
    await write(client, servers, anew, "job-4", b"")
    assert await client.keys("{viscpm}:conversation*") == [], "deleted meanwhile: it stays deleted"


async def test_deleting_forgets_the_jobs_that_answered_and_no_other(
    client: "redis.asyncio.Redis", servers: RedisServers, conversations: Conversations
) -> None:
    await begin(client, servers, conversations)  # its job is `first-a-1`
    await begin(client, servers, conversations, number="2")
    await conversations.open("a", "1", "refused")
    await client.hset("{viscpm}:job:refused", mapping={"state": "refused", "ending": "x"})
    await conversations.open("a", "1", "running")
    await client.hset("{viscpm}:job:running", "state", "running")
    await conversations.delete("a", "1")
    left = {key.decode().split(":")[-1] for key in await client.keys("{viscpm}:job:*")}
    assert left == {"running", "first-a-2"}
