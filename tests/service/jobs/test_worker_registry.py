"""Which workers live, what they serve, and what a request that needs one is told."""

import asyncio
import gc
from collections.abc import AsyncIterator

import pytest
import redis.asyncio

from models.jobs import Kind, ModelDescription
from service.core.errors import BusUnavailable, ModelLoading, ModelUnavailable, NoWorker, ScreenUnavailable
from service.core.settings import Settings
from service.jobs.worker_registry import WorkerRegistry
from service.process.embedded_redis import EmbeddedServer
from service.queue.heartbeat import WorkerInfo, WorkerState, remove_heartbeat, send_heartbeat
from service.redis.connection import RedisConnection, RedisServers, open_redis
from service.redis.keys import Keys
from tests.service.tree import api_side, eventually, quick_settings


class Beats:
    """Heartbeats of workers that there are not."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection

    async def send(
        self,
        worker_id: str,
        kind: Kind = "chat",
        state: WorkerState = "ready",
        name: str = "m",
        expiry_s: float = 30.0,
        started_s: float = 0.0,
    ) -> None:
        model = ModelDescription(kind=kind, name=name, fingerprint=f"f-{name}", image_size_px=224) if name else None
        info = WorkerInfo(worker_id, kind, state, "host", 1, started_s, model)
        await send_heartbeat(self._connection, Keys("viscpm"), info, expiry_s)

    async def remove(self, worker_id: str) -> None:
        await remove_heartbeat(self._connection, Keys("viscpm"), worker_id)


@pytest.fixture
async def beats(servers: RedisServers) -> AsyncIterator[Beats]:
    connection = RedisConnection(servers)
    yield Beats(connection)
    await connection.close()


@pytest.fixture
async def registry(servers: RedisServers, settings: Settings) -> AsyncIterator[WorkerRegistry]:
    made = WorkerRegistry(servers, settings)
    await made.start()
    yield made
    await made.close()


async def test_a_request_that_finds_nobody_ready_looks_again(registry: WorkerRegistry, beats: Beats) -> None:
    """What another API process knows since a moment ago, in which this one has not looked."""
    with pytest.raises(NoWorker):
        await registry.find("chat")
    await beats.send("w", state="loading", name="")
    with pytest.raises(NoWorker):
        registry.require("chat")
    with pytest.raises(ModelLoading):
        await registry.find("chat")
    await beats.send("w")
    found = await asyncio.gather(*(registry.find("chat") for _ in range(20)))
    assert {model.name for model in found} == {"m"}
    with pytest.raises(ModelUnavailable):
        await registry.find("safety")


async def test_a_second_look_waits_for_no_server_that_is_away(own_server: EmbeddedServer) -> None:
    settings = quick_settings(own_server.url)
    registry = WorkerRegistry(open_redis(settings), settings)
    await registry.start()
    own_server.stop()
    started_s = asyncio.get_running_loop().time()
    with pytest.raises((NoWorker, BusUnavailable)):
        await registry.find("chat")
    assert asyncio.get_running_loop().time() - started_s < 2.0
    await registry.close()


@pytest.fixture
def settings(redis_url: str) -> Settings:
    return quick_settings(redis_url, safety="on", models=("chat",))


async def test_a_model_is_absent_then_loading_then_served(registry: WorkerRegistry, beats: Beats) -> None:
    with pytest.raises(NoWorker, match="^no chat worker is alive") as absent:
        registry.require("chat")
    assert absent.value.code == "no_worker"
    await beats.send("w1", state="loading", name="")
    await eventually(lambda: registry.workers("chat"))
    assert not registry.is_ready("chat") and registry.model("chat") is None
    with pytest.raises(ModelLoading, match="^the chat model is being loaded") as loading:
        registry.require("chat")
    assert loading.value.code == "model_loading"
    await beats.send("w1")
    await eventually(lambda: registry.is_ready("chat"))
    assert registry.require("chat").name == "m"
    await beats.send("w1", state="stalled")
    await eventually(lambda: not registry.is_ready("chat"))
    assert registry.require("chat").name == "m", "a stalled worker's jobs are others' soon: they may be queued"


async def test_the_last_models_shape_is_known_while_its_successor_loads_and_its_name_is_not_told(
    registry: WorkerRegistry, beats: Beats, client: "redis.asyncio.Redis"
) -> None:
    await beats.send("w1", name="first")
    await eventually(lambda: registry.is_ready("chat"))
    await beats.remove("w1")
    await eventually(lambda: not registry.workers())
    with pytest.raises(NoWorker, match="^no chat worker is alive"):
        registry.require("chat")
    await client.delete("{viscpm}:model:chat")  # a server that came back empty
    await beats.send("w2", state="loading", name="")
    await eventually(lambda: registry.workers("chat"))
    expected = registry.require("chat")
    assert (expected.name, expected.fingerprint, expected.image_size_px) == ("", "", 224)
    assert registry.model("chat") is None, "nobody serves it any more"


async def test_a_process_that_starts_later_knows_the_last_models_shape_too(
    servers: RedisServers, settings: Settings, beats: Beats
) -> None:
    await beats.send("w1", name="first")
    await beats.remove("w1")
    late = WorkerRegistry(servers, settings)
    await late.start()
    assert late.model("chat") is None and late.workers() == []
    await beats.send("w2", state="loading", name="")
    await eventually(lambda: late.workers("chat"))
    assert (late.require("chat").name, late.require("chat").image_size_px) == ("", 224)
    await late.close()


@pytest.mark.slow
async def test_of_two_models_in_a_rolling_change_the_newest_ready_one_is_expected(
    registry: WorkerRegistry, beats: Beats
) -> None:
    def name() -> str:
        return registry.require("chat").name

    await beats.send("z-old", name="old", started_s=10)
    await eventually(lambda: registry.workers() and name() == "old")
    await beats.send("a-new", state="loading", name="", started_s=20)
    await eventually(lambda: len(registry.workers()) == 2)
    assert name() == "old"
    await beats.send("a-new", name="new", started_s=20)
    await eventually(lambda: name() == "new")
    await beats.send("a-new", state="draining", name="new", started_s=20)  # it failed, and the change is taken back
    await eventually(lambda: name() == "old")
    await beats.remove("z-old")
    await eventually(lambda: name() == "new")
    await beats.remove("a-new")
    await eventually(lambda: registry.workers() == [])
    assert registry.model("chat") is None


@pytest.mark.waiting
async def test_a_model_is_unserved_some_time_after_its_last_heartbeat(
    servers: RedisServers, settings: Settings, beats: Beats
) -> None:
    registry = WorkerRegistry(servers, settings.model_copy(update={"no_worker_s": 0.6, "heartbeat_s": 0.1}))
    await registry.start()
    time_s = asyncio.get_running_loop().time
    started_s = time_s()
    assert registry.unserved() == [], "nobody had time to be heard yet"
    await eventually(lambda: registry.unserved() == ["chat"], 3.0)
    assert time_s() - started_s >= 0.6
    await beats.send("w1", state="loading", name="", expiry_s=0.3)
    beat_s = time_s()
    await eventually(lambda: registry.workers("chat"))
    assert registry.unserved() == [], "one that loads will serve"
    await eventually(lambda: registry.unserved() == ["chat"], 3.0)
    assert 0.55 <= time_s() - beat_s < 2.0, "counted from its last heartbeat, not from when that expired"
    await registry.close()


@pytest.mark.waiting
async def test_nobody_is_unserved_for_not_being_heard_while_redis_was_away(own_server: EmbeddedServer) -> None:
    settings = quick_settings(own_server.url, models=("chat",), no_worker_s=1.0)
    registry = WorkerRegistry(open_redis(settings), settings)
    await registry.start()
    own_server.stop()
    await eventually(lambda: not registry.is_fresh, 5.0)
    await asyncio.sleep(1.2)
    assert registry.unserved() == []
    own_server.start()
    await eventually(lambda: registry.is_fresh, 5.0)
    assert registry.unserved() == [], "workers get their time to come back as well"
    await eventually(lambda: registry.unserved() == ["chat"], 3.0)
    await registry.close()


async def test_a_heartbeat_that_stops_is_forgotten(registry: WorkerRegistry, beats: Beats) -> None:
    await beats.send("w1", expiry_s=0.3)
    await beats.send("w2")
    await eventually(lambda: len(registry.workers("chat")) == 2)
    await eventually(lambda: [one.info.worker_id for one in registry.workers()] == ["w2"], 3.0)
    assert registry.workers("paint") == []


async def test_what_is_not_served_is_not_waited_for(registry: WorkerRegistry, beats: Beats) -> None:
    await beats.send("p1", kind="paint")
    await eventually(lambda: registry.workers("paint"))
    with pytest.raises(ModelUnavailable, match=r"^paint is not served here \(VISCPM_MODELS names chat\)"):
        registry.require("paint")


async def test_screens_are_required_where_they_are_on(
    registry: WorkerRegistry, beats: Beats, servers: RedisServers, settings: Settings
) -> None:
    with pytest.raises(ScreenUnavailable, match="no safety worker is alive"):
        registry.require_screens()
    unguarded = WorkerRegistry(servers, settings.model_copy(update={"safety": "off"}))
    await unguarded.start()
    unguarded.require_screens()
    await unguarded.close()
    await beats.send("s1", kind="safety", state="loading", name="")
    await eventually(lambda: registry.workers("safety"))
    registry.require_screens()
    await beats.send("s1", kind="safety", state="draining")
    await eventually(lambda: registry.screens_are_gone)  # it takes nothing more
    await beats.send("s2", kind="safety", state="loading", name="")
    await eventually(lambda: not registry.screens_are_gone)


@pytest.mark.waiting
async def test_without_redis_nobody_blames_the_workers(
    own_server: EmbeddedServer, caplog: pytest.LogCaptureFixture
) -> None:
    settings = quick_settings(own_server.url)
    registry = WorkerRegistry(open_redis(settings), settings)
    await registry.start()
    assert registry.is_fresh
    own_server.stop()
    await eventually(lambda: not registry.is_fresh, 5.0)
    assert not registry.is_ready("chat")
    with pytest.raises(BusUnavailable, match="^the queue's server does not answer"):
        registry.require("chat")
    registry.require_screens()  # it is not known that there are none
    with pytest.raises(BusUnavailable):
        await registry.shared_state()
    await asyncio.sleep(0.01)  # the exchange has ended, and holds nothing
    gc.collect()
    await asyncio.sleep(0.4)  # some more rounds
    assert "never retrieved" not in caplog.text
    assert caplog.text.count("heartbeats cannot be read") == 1, "said once, not every second"
    own_server.start()
    await eventually(lambda: registry.is_fresh, 5.0)
    await registry.close()


async def test_an_unreadable_heartbeat_leaves_what_was_known(
    registry: WorkerRegistry, beats: Beats, client: "redis.asyncio.Redis", caplog: pytest.LogCaptureFixture
) -> None:
    await beats.send("w1")
    await eventually(lambda: registry.is_ready("chat"))
    await client.hset("{viscpm}:heartbeats", "w1", b"30000:\xc1 of another version")
    await eventually(lambda: "a heartbeat cannot be read" in caplog.text)
    assert registry.require("chat").name == "m"


async def test_shared_state_counts_what_all_processes_did(
    registry: WorkerRegistry, client: "redis.asyncio.Redis", settings: Settings
) -> None:
    async with api_side(settings) as api:
        for job_id in ("a", "b"):
            await api.producer.reserve("chat", job_id)
        await api.producer.cancel("b", "test_over")
    await client.hincrby("{viscpm}:restarts", "chat", 3)
    shared = await registry.shared_state()
    assert shared.depth == {"chat": 1, "safety": 0}
    assert shared.jobs == {("chat", "accepted"): 2, ("chat", "cancelled"): 1}
    assert shared.restarts == {"chat": 3}
