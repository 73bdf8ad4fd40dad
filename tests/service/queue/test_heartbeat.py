"""What workers tell of themselves, through a real server."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
import redis.asyncio

from models.jobs import ModelDescription, VersionMismatch, encode
from service.queue.heartbeat import WorkerInfo, last_model, live_workers, remove_heartbeat, send_heartbeat
from service.redis.connection import RedisConnection, RedisServers
from service.redis.keys import Keys

KEYS = Keys("viscpm")
MODEL = ModelDescription(
    kind="chat", name="m", fingerprint="f", dtype="float16", image_size_px=224, rerankers={"en": "c"}
)
INFO = WorkerInfo(
    "w1", "chat", "ready", "host", 7, 12.5, MODEL, jobs=2, capacity=3, step_age_s=0.5, metrics_url="http://x/metrics"
)


@pytest.fixture
async def connection(servers: RedisServers) -> AsyncIterator[RedisConnection]:
    opened = RedisConnection(servers)
    yield opened
    await opened.close()


async def test_what_is_told_is_heard_with_its_age_by_the_servers_clock(connection: RedisConnection) -> None:
    await send_heartbeat(connection, KEYS, INFO, 5.0)
    await asyncio.sleep(0.2)
    [worker] = await live_workers(connection, KEYS)
    assert worker.info == INFO and 0.15 < worker.age_s < 2
    await send_heartbeat(connection, KEYS, msgspec.structs.replace(INFO, state="draining", jobs=0), 5.0)
    [worker] = await live_workers(connection, KEYS)
    assert (worker.info.state, worker.info.jobs) == ("draining", 0) and worker.age_s < 0.15


async def test_a_silent_worker_and_one_that_left_are_gone_and_their_model_is_remembered(
    connection: RedisConnection, client: "redis.asyncio.Redis"
) -> None:
    await send_heartbeat(connection, KEYS, INFO, 0.1)
    await send_heartbeat(connection, KEYS, msgspec.structs.replace(INFO, worker_id="w2"), 5.0)
    await send_heartbeat(connection, KEYS, msgspec.structs.replace(INFO, worker_id="w3"), 5.0)
    await remove_heartbeat(connection, KEYS, "w3")
    await asyncio.sleep(0.15)
    assert [one.info.worker_id for one in await live_workers(connection, KEYS)] == ["w2"]
    await remove_heartbeat(connection, KEYS, "w2")
    await remove_heartbeat(connection, KEYS, "never was")
    assert await live_workers(connection, KEYS) == []
    assert await last_model(connection, KEYS, "chat") == MODEL
    assert await last_model(connection, KEYS, "paint") is None


async def test_a_worker_that_is_loading_keeps_its_predecessors_model(connection: RedisConnection) -> None:
    await send_heartbeat(connection, KEYS, INFO, 5.0)
    await send_heartbeat(connection, KEYS, WorkerInfo("w2", "chat", "loading", "host", 8, 13.0), 5.0)
    loading = next(one.info for one in await live_workers(connection, KEYS) if one.info.worker_id == "w2")
    assert loading.model is None
    assert await last_model(connection, KEYS, "chat") == MODEL


async def test_a_model_of_another_version_is_refused_not_guessed(
    connection: RedisConnection, client: "redis.asyncio.Redis"
) -> None:
    await client.set("{viscpm}:model:chat", b"\x63" + encode(MODEL)[1:])
    with pytest.raises(VersionMismatch, match="version 99"):
        await last_model(connection, KEYS, "chat")
