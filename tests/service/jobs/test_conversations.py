"""Conversations in a real Redis: tenants, the busy mark, time to live."""

import asyncio
import gc
from collections.abc import AsyncIterator

import pytest
import redis.asyncio

from service.core.errors import BusUnavailable, ConversationBusy, ConversationNotFound
from service.core.settings import Settings
from service.jobs.conversations import (
    ConversationMeta,
    Conversations,
    StoredTurn,
    busy_key,
    conversation_key,
    new_conversation_id,
    pixels_key,
)
from service.queue.connection import RedisConnection, open_redis
from service.queue.vision_cache import VisionCache, picture_key

META = ConversationMeta(created=1, model="m", fingerprint="f", image_sha256="ab", image_size_px=2)
PIXELS = bytes(range(12))


@pytest.fixture
async def conversations(client: "redis.asyncio.Redis", redis_url: str) -> AsyncIterator[Conversations]:
    store = Conversations(client, Settings(redis_url=redis_url, conversation_ttl_s=100))
    yield store
    await store.close()


async def begin(client: "redis.asyncio.Redis", store: Conversations, tenant: str = "a", number: str = "1") -> None:
    """As the bus writes a first turn."""
    append = store.append(tenant, number, StoredTurn("q", "a<b", "a<<b", 5), META)
    assert append.is_new and append.conversation_key == conversation_key(tenant, number)
    await client.hset(append.conversation_key, mapping=append.fields)
    await client.rpush(append.conversation_key + ":turns", append.turn)
    await client.set(append.conversation_key + ":pixels", PIXELS)
    for suffix in ("", ":turns", ":pixels"):
        await client.expire(append.conversation_key + suffix, 10)


async def test_opening_gives_history_pixels_and_a_longer_life(
    client: "redis.asyncio.Redis", conversations: Conversations
) -> None:
    await begin(client, conversations)
    opened = await conversations.open("a", "1", "job-1")
    assert opened.meta == META and await client.get(pixels_key("a", "1")) == PIXELS
    assert [(turn.question, turn.answer) for turn in opened.history()] == [("q", "a<<b")]
    assert await client.get(busy_key("a", "1")) == b"job-1"
    for suffix in ("", ":turns", ":pixels"):
        assert 90 < await client.ttl(conversation_key("a", "1") + suffix) <= 100
    shown = await conversations.get("a", "1")
    assert [turn.answer for turn in shown.turns] == ["a<b"] and 90 < shown.expires_in_s <= 100


async def test_tenants_do_not_see_each_other(client: "redis.asyncio.Redis", conversations: Conversations) -> None:
    await begin(client, conversations, tenant="a")
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
    client: "redis.asyncio.Redis", conversations: Conversations, state: str
) -> None:
    await begin(client, conversations)
    await client.hset("job:job-1", "state", state)
    await conversations.open("a", "1", "job-1")
    with pytest.raises(ConversationBusy):
        await conversations.open("a", "1", "job-2")
    await conversations.open("a", "1", "job-1")  # its own holder is not in its way


@pytest.mark.parametrize("state", ["done", "refused", "failed", "cancelled", None])
async def test_an_ended_or_forgotten_job_does_not(
    client: "redis.asyncio.Redis", conversations: Conversations, state: str | None
) -> None:
    await begin(client, conversations)
    await conversations.open("a", "1", "job-1")
    if state is not None:
        await client.hset("job:job-1", "state", state)
    await conversations.open("a", "1", "job-2")
    assert await client.get(busy_key("a", "1")) == b"job-2"


async def test_deleting_leaves_nothing(client: "redis.asyncio.Redis", conversations: Conversations) -> None:
    await begin(client, conversations)
    await conversations.open("a", "1", "job-1")
    connection = RedisConnection(client)
    states = VisionCache(connection, Settings())
    await states.put("f:float32:" + picture_key("a", META.image_sha256), b"state")
    await conversations.delete("a", "1")
    await connection.close()
    assert await client.keys("conversation:*") == await client.keys("vision:*") == []
    with pytest.raises(ConversationNotFound):
        await conversations.delete("a", "1")


def test_ids_cannot_be_guessed() -> None:
    ids = {new_conversation_id() for _ in range(1000)}
    assert len(ids) == 1000 and all(len(one) == len("conv-") + 24 for one in ids)


@pytest.mark.parametrize("state", ["reserved", "queued", "running", "done"])
async def test_a_turn_in_work_keeps_the_picture_of_a_deleted_conversation(
    client: "redis.asyncio.Redis", conversations: Conversations, state: str
) -> None:
    await begin(client, conversations)
    await conversations.open("a", "1", "job-1")
    await client.hset("job:job-1", "state", state)
    await conversations.delete("a", "1")
    assert [key async for key in client.scan_iter("conversation:*")] == []
    assert await client.get("pixels:job-1") == (None if state == "done" else PIXELS)


async def test_redis_away_is_one_error_for_all_that_was_asked_at_once(caplog: pytest.LogCaptureFixture) -> None:
    client = open_redis("redis://127.0.0.1:9")
    conversations = Conversations(client, Settings())
    with pytest.raises(BusUnavailable):
        await conversations.get("t", "conv-1")
    await asyncio.sleep(0.01)  # the exchange has ended, and holds nothing
    gc.collect()
    assert "never retrieved" not in caplog.text
    await conversations.close()
    await client.aclose()
