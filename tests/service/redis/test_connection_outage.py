"""Redis goes away, comes back, comes back empty, is full, or does not answer."""

import asyncio
import os
import resource
import signal
import time
import uuid
from collections.abc import AsyncIterator, Awaitable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from models.jobs import Generated
from service.core.errors import BusUnavailable, JobLost
from service.core.settings import Settings
from service.process.embedded_redis import EmbeddedServer
from service.queue.subscription import JobSubscription
from service.redis.connection import BlockingReader
from service.redis.primary import CALL_LIMIT_S
from tests.service.tree import ApiSide, StartWorker, api_side, eventually, log_lines, quick_settings

pytestmark = pytest.mark.own_process


@pytest.fixture
def redis_url(own_server: EmbeddedServer) -> str:
    """These tests stop their server."""
    return own_server.url


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[ApiSide]:
    async with api_side(settings) as side:
        yield side


async def fails_fast(api: ApiSide) -> None:
    started_s = time.monotonic()
    for call in (api.producer.depth("chat"), api.producer.reserve("chat", "x")):
        with pytest.raises(BusUnavailable) as caught:
            await call
        assert caught.value.retry_after_s
        # Clients read this: it names no address
        assert caught.value.message in (
            "the queue's server does not answer: no connection",
            "the queue's server does not answer: no reply within 2 s",
        )
    assert time.monotonic() - started_s < 5.0


async def test_redis_away_for_a_while(
    own_server: EmbeddedServer, api: ApiSide, start_worker: StartWorker, engine_log: Path
) -> None:
    """FAULTS 9: 503 meanwhile, then normal service without a restart; nothing lost, nothing said twice."""
    worker = start_worker(step_s=0.05)
    await api.ready(worker)
    running = asyncio.create_task(api.request("stream 20"))
    queued = [asyncio.create_task(api.request(f"stream {n}")) for n in range(1, 7)]
    await eventually(lambda: len(log_lines(engine_log, "step")) >= 5)
    own_server.stop()
    await fails_fast(api)
    await asyncio.sleep(2.0)
    assert not running.done() and worker.process.poll() is None
    own_server.start()
    outcomes = await asyncio.wait_for(asyncio.gather(running, *queued), 20)
    assert outcomes[0].streamed == outcomes[0].answer == "".join(f"w{i} " for i in range(20))
    assert all(one.streamed == one.answer and one.ending and one.ending.state == "done" for one in outcomes)
    assert (await api.request("echo after")).answer == "after"
    assert len(log_lines(engine_log, "load")) == 1
    await api.check_accounting(accepted=8, done=8)


async def test_redis_killed_and_restarted(
    own_server: EmbeddedServer, api: ApiSide, start_worker: StartWorker, engine_log: Path
) -> None:
    """The append-only file has what was acknowledged."""
    await api.ready(start_worker(step_s=0.05))
    request = asyncio.create_task(api.request("stream 20"))
    await eventually(lambda: len(log_lines(engine_log, "step")) >= 5)
    assert own_server.process is not None
    own_server.process.kill()
    own_server.process.wait()
    own_server.stop()
    own_server.start()
    outcome = await asyncio.wait_for(request, 20)
    assert outcome.streamed == outcome.answer == "".join(f"w{i} " for i in range(20))
    await api.check_accounting(accepted=1, done=1)


async def test_redis_comes_back_empty(
    own_server: EmbeddedServer, api: ApiSide, start_worker: StartWorker, engine_log: Path
) -> None:
    """FAULTS 10: those who wait are told, and the next request is served."""
    worker = start_worker(step_s=0.05)
    await api.ready(worker)
    requests = [asyncio.create_task(api.request("stream 200")) for _ in range(6)]
    await eventually(lambda: len(log_lines(engine_log, "step")) >= 5)
    own_server.stop()
    for file in (own_server.folder / "appendonlydir").iterdir():
        file.unlink()
    own_server.start()
    results = await asyncio.wait_for(asyncio.gather(*requests, return_exceptions=True), 20)
    assert [type(one) for one in results] == [JobLost] * 6
    assert (await asyncio.wait_for(api.request("echo after"), 20)).answer == "after"
    assert worker.process.poll() is None
    await api.check_accounting(accepted=1, done=1)


async def test_redis_is_full(api: ApiSide, start_worker: StartWorker, engine_log: Path) -> None:
    """FAULTS 11: new work is refused, what is there can be read and can end, and nothing is lost."""
    await api.ready(start_worker(step_s=0.05))
    request = asyncio.create_task(api.request("stream 40"))
    waiting = await api.start("stream 1000")
    await eventually(lambda: len(log_lines(engine_log, "step")) >= 5)
    await api.redis.config_set("maxmemory", "1mb")
    with pytest.raises(BusUnavailable, match="does not take writes just now$"):
        await api.producer.reserve("chat", "refused")
    assert await api.producer.depth("chat") == 2 and await api.state(waiting) == "running"
    assert await api.producer.cancel(waiting, "client_gone")
    await asyncio.sleep(0.5)
    assert not request.done()
    await api.redis.config_set("maxmemory", "0")
    outcome = await asyncio.wait_for(request, 20)
    assert outcome.streamed == outcome.answer == "".join(f"w{i} " for i in range(40))
    await api.check_accounting(accepted=2, done=1, cancelled=1)


async def test_a_connection_that_the_server_closed_is_replaced(own_server: EmbeddedServer, api: ApiSide) -> None:
    """An idle connection must not fail its first call after a restart."""
    assert await api.connection.send("PING") == b"PONG"
    own_server.stop()
    own_server.start()
    await asyncio.sleep(0.1)
    assert await api.connection.send("PING") == b"PONG"


async def test_a_new_primary_whose_clock_is_behind_is_heard(api: ApiSide, start_worker: StartWorker) -> None:
    """After an outage the ids of a stream may go on below the last one that was read."""
    await api.ready(start_worker())
    inbox, cancelled = api.producer.keys.inbox(api.process_id), api.producer.keys.cancelled
    for stream in (inbox, cancelled):
        await api.redis.xadd(stream, {"j": "", "p": "", "d": ""}, id="99999999999999-0")
    await asyncio.sleep(0.2)  # it was read
    for stream in (inbox, cancelled):
        await api.redis.delete(stream)
        await api.redis.xadd(stream, {"j": "", "p": "", "d": ""}, id="1-1")
    await api.redis.client_kill_filter(_type="normal", skipme=True)
    await eventually(lambda: answers(api))
    await asyncio.sleep(1.5)  # both read again
    began_s = time.monotonic()
    assert (await api.request("stream 5")).streamed == "w0 w1 w2 w3 w4 "
    assert time.monotonic() - began_s < 5.0, "heard as news, not found by looking into the record"


async def test_redis_hangs(own_server: EmbeddedServer, api: ApiSide, start_worker: StartWorker) -> None:
    await api.ready(start_worker())
    assert own_server.process is not None
    os.kill(own_server.process.pid, signal.SIGSTOP)
    try:
        await fails_fast(api)
    finally:
        os.kill(own_server.process.pid, signal.SIGCONT)
    await eventually(lambda: answers(api), 10)
    assert (await asyncio.wait_for(api.request("echo after"), 20)).answer == "after"


async def test_no_call_takes_longer_than_its_limit(own_server: EmbeddedServer, api: ApiSide) -> None:
    """Calls that wait behind an exchange with a hung server, too, and reads that wait at it."""
    assert own_server.process is not None
    reader = BlockingReader(api.servers)
    taken_s: list[float] = []

    async def timed(call: Awaitable[Any], limit_s: float) -> None:
        began_s = time.monotonic()
        with pytest.raises(BusUnavailable):
            await call
        taken_s.append(time.monotonic() - began_s - limit_s)

    await reader.read("XREAD", "BLOCK", 1, "STREAMS", "none", "0", block_s=0.001)
    os.kill(own_server.process.pid, signal.SIGSTOP)
    try:
        calls = [asyncio.create_task(timed(_read(reader), 0.5 + CALL_LIMIT_S))]
        for _ in range(120):
            calls.append(asyncio.create_task(timed(api.connection.send("PING"), CALL_LIMIT_S)))
            await asyncio.sleep(0.05)
        await asyncio.gather(*calls)
    finally:
        os.kill(own_server.process.pid, signal.SIGCONT)
        await reader.close()
    assert max(taken_s) < 0.5, "beyond its limit is what a busy machine takes to notice"
    await eventually(lambda: answers(api), 10)


async def _read(reader: BlockingReader) -> Any:
    return await reader.read("XREAD", "BLOCK", 500, "STREAMS", "none", "0", block_s=0.5)


async def answers(api: ApiSide) -> bool:
    try:
        return await api.producer.depth("chat") >= 0
    except BusUnavailable:
        return False


async def test_a_watch_gives_up_at_its_deadline_while_redis_is_away(own_server: EmbeddedServer) -> None:
    async with api_side(quick_settings(own_server.url, chat_deadline_s=1.0)) as api:
        request = asyncio.create_task(api.request("echo x"))
        await asyncio.sleep(0.3)
        own_server.stop()
        with pytest.raises(BusUnavailable):
            await asyncio.wait_for(request, 5)
        own_server.start()
        await eventually(lambda: swept(api), 10)  # the sweeper ends it
        await api.check_accounting(accepted=1, cancelled=1)


async def swept(api: ApiSide) -> bool:
    return await answers(api) and (await api.producer.sweep()).overdue == 1


async def test_starting_before_redis(own_server: EmbeddedServer, start_worker: StartWorker, settings: Settings) -> None:
    own_server.stop()
    worker = start_worker()
    async with api_side(settings) as api:
        await fails_fast(api)
        own_server.start()
        await api.ready(worker)
        assert (await api.request("echo x")).answer == "x"


async def test_waiting_ends_where_the_outage_does_not(
    own_server: EmbeddedServer, redis_url: str, start_worker: StartWorker
) -> None:
    """Bounded by `redis_outage_s` and not by the job's deadline; the job itself goes on, and is there afterwards."""
    settings = quick_settings(redis_url, redis_outage_s=1.0, heartbeat_s=0.2)
    async with api_side(settings) as api:
        await api.ready(start_worker(step_s=0.05))
        job_id = await api.start("stream 20")
        async with api.producer.subscribe(job_id) as watch:
            await anext(watch)
            own_server.stop()
            stopped_s = time.monotonic()
            with pytest.raises(BusUnavailable, match=f"{job_id} may still be finished"):
                async for _ in watch:
                    pass
            assert 1.0 < time.monotonic() - stopped_s < 6.0
        own_server.start()

        async def is_generated() -> bool:
            with suppress(BusUnavailable):
                return await api.state(job_id) == "generated"
            return False

        await eventually(is_generated, 20)
        async with api.producer.subscribe(job_id) as again:
            assert isinstance([event async for event in take(again, 21)][-1], Generated)


async def take(watch: JobSubscription, count: int) -> AsyncIterator[object]:
    for _ in range(count):
        yield await anext(watch)


async def test_a_full_disk_is_an_outage_in_our_words_until_it_is_freed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """FAULTS 38. A file that may not grow stands for a disk that is full."""
    server = EmbeddedServer(tmp_path)
    with server:
        assert server.process is not None
        settings = quick_settings(server.url, redis_outage_s=1.0, heartbeat_s=0.2)
        async with api_side(settings) as api:
            job_id = await api.start("nobody works on it")
            async with api.producer.subscribe(job_id) as watch:
                waiting = asyncio.ensure_future(anext(watch))
                resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
                full_s = time.monotonic()
                await eventually(lambda: refuses(api), 10)
                with pytest.raises(BusUnavailable) as told:
                    await api.producer.reserve("chat", "another")
                assert told.value.retry_after_s and "MISCONF" not in told.value.message
                assert "AOF" not in told.value.message and "does not take writes" in told.value.message
                with pytest.raises(BusUnavailable, match="may still be finished"):
                    await waiting
                assert time.monotonic() - full_s < 12.0
            assert "MISCONF" in caplog.text  # the server's own words are for the log
            free = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, free)
            await eventually(lambda: takes(api), 10)
            assert await api.producer.cancel(job_id, "test_over")


async def refuses(api: ApiSide) -> bool:
    return not await takes(api)


async def takes(api: ApiSide) -> bool:
    job_id = uuid.uuid4().hex
    try:
        await api.producer.reserve("chat", job_id)
        await api.producer.cancel(job_id, "probe")
    except BusUnavailable:
        return False
    return True
