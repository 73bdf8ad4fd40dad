"""Who the primary is: one server, sentinels, a cluster, with RESP3 and without; what a connection learns of it."""

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.crc import key_slot

from service.core.errors import BusUnavailable
from service.core.settings import Settings, SettingsError
from service.redis.connection import BlockingReader, RedisConnection
from service.redis.primary import CALL_LIMIT_S, RedisServers
from tests.redis_servers import Cluster, RedisProcess, Watched, free_port, until
from tests.service.tree import StartWorker, api_side, eventually, quick_settings

pytestmark = pytest.mark.own_process

KEY = "{viscpm}:test"
SLOT = key_slot(b"{viscpm}")
NO_HELLO = 'rename-command HELLO ""'  # as a proxy or a managed server that knows RESP2 alone


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    started = Watched(tmp_path)
    yield started
    started.stop()


def servers_of(url: str) -> RedisServers:
    return RedisServers(Settings(redis_url=url), KEY)


async def answers(connection: RedisConnection, *command: str) -> bool:
    try:
        await connection.send(*command)
        return True
    except BusUnavailable:
        return False


@pytest.mark.parametrize("password", ["", "s3cret"])
async def test_where_resp3_is_refused_resp2_tells_the_same(tmp_path: Path, password: str) -> None:
    options = [NO_HELLO, *([f"requirepass {password}"] if password else [])]
    told = []
    for own in ([], options):
        server = RedisProcess(tmp_path, *own, password=password if own else "")
        servers = servers_of(server.url.replace("//", f"//:{password}@" if own and password else "//"))
        connection, reader = RedisConnection(servers), BlockingReader(servers)
        await connection.send("HSET", "hash", "a", "1", "b", "2")
        await connection.send("XADD", "stream", "1-1", "field", "value")
        await connection.send("XGROUP", "CREATE", "stream", "group", "0")
        read = ("GROUP", "group", "consumer", "COUNT", "5", "STREAMS", "stream", ">")
        told.append(
            [
                await connection.send("HGETALL", "hash"),
                await connection.send("HGETALL", "none"),
                await connection.send("GET", "none"),
                await reader.read("XREAD", "BLOCK", "10", "STREAMS", "stream", "0", block_s=0.01),
                await reader.read("XREAD", "BLOCK", "10", "STREAMS", "stream", "$", block_s=0.01),
                await reader.read("XREADGROUP", *read, block_s=0.01),
                await connection.send("XAUTOCLAIM", "stream", "group", "other", 0, "0-0"),
                await connection.send("EVAL", "return {1, false, 'x', {2}}", 0),
                await connection.send("CONFIG", "GET", "maxmemory"),
            ]
        )
        await reader.close()
        await connection.close()
        server.kill()
    assert told[0] == told[1]
    assert told[0][0] == {b"a": b"1", b"b": b"2"} and told[0][3] == {b"stream": [[b"1-1", [b"field", b"value"]]]}


async def test_jobs_over_resp2(tmp_path: Path, engine_log: Path, start_worker: StartWorker) -> None:
    server = RedisProcess(tmp_path / "server", NO_HELLO)
    settings = quick_settings(server.url)
    async with api_side(settings) as api:
        worker = start_worker(settings)
        await api.ready(worker)
        assert (await api.request("stream 5")).answer == "w0 w1 w2 w3 w4 "
        assert (await api.producer.accounting())["done:chat"] == 1
    assert "RESP2 is spoken" in worker.said()
    server.kill()


async def test_a_replaced_primary_is_left_by_all_connections(watched: Watched) -> None:
    """Also by one that was idle: to the old server it is open still, and would write what is lost."""
    servers = servers_of(watched.url)
    busy, idle = RedisConnection(servers), RedisConnection(servers)
    old = watched.primary
    assert await busy.send("SET", KEY, "1") == await idle.send("SET", KEY, "1") == b"OK"
    with old.hung():
        await asyncio.to_thread(until, lambda: watched.primary is not old, 20.0, "new primary")
        began_s = time.monotonic()
        await eventually(lambda: answers(busy, "SET", KEY, "2"), 2 * CALL_LIMIT_S)
        assert time.monotonic() - began_s < CALL_LIMIT_S + 1.0
    assert await idle.send("SET", KEY, "3") == b"OK"
    assert watched.primary is not old and watched.primary.call("GET", KEY) == "3"
    await busy.close()
    await idle.close()


async def test_a_demoted_server_tells_of_its_primary_before_the_sentinels_do(watched: Watched) -> None:
    old, new = watched.primary, watched.replica
    for sentinel in watched.sentinels:
        sentinel.signal(signal.SIGSTOP)
    new.call("REPLICAOF", "NO", "ONE")
    old.call("REPLICAOF", *new.address)
    watched.sentinels[0].signal(signal.SIGCONT)  # alone: it cannot have the failover undone
    connection = RedisConnection(servers_of(watched.url))
    assert watched.primary is old
    assert await connection.send("SET", KEY, "1") == b"OK" and new.call("GET", KEY) == "1"
    await connection.close()


async def test_sentinels_that_are_gone_or_hung_are_passed_over(watched: Watched) -> None:
    watched.sentinels[0].kill()
    with watched.sentinels[1].hung():
        connection = RedisConnection(servers_of(watched.url))
        began_s = time.monotonic()
        assert await connection.send("SET", KEY, "1") == b"OK"
        assert time.monotonic() - began_s < CALL_LIMIT_S
        await connection.close()


async def test_sentinels_that_know_no_such_service(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    connection = RedisConnection(servers_of(watched.url.replace("/main", "/other")))
    with pytest.raises(BusUnavailable, match="^the queue's server cannot serve just now$"):
        await connection.send("PING")
    await connection.close()
    assert "knows no service 'other'" in caplog.text


async def test_a_slot_that_moves_takes_its_calls_along_in_order(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, num_replicas=0)
    try:
        servers = servers_of(cluster.url)
        connection, reader = RedisConnection(servers), BlockingReader(servers)
        assert await connection.send("RPUSH", KEY, "0") == 1
        blocked = asyncio.create_task(reader.read("XREAD", "BLOCK", "5000", "STREAMS", KEY + "s", "0", block_s=5.0))
        old = cluster.owner(SLOT)
        target = next(node for node in cluster.nodes if node is not old)
        old.call("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", SLOT, SLOT, "NODE", target.call("CLUSTER", "MYID"))
        calls, number = [], 0
        while cluster.owner(SLOT) is not target:
            number += 1
            calls.append(connection.send("RPUSH", KEY, str(number)))
            await asyncio.sleep(0.005)
        lengths = await asyncio.gather(*calls)
        assert lengths == list(range(2, number + 2)), "each once, in the order in which they were asked for"
        assert await connection.send("LRANGE", KEY, 0, -1) == [str(one).encode() for one in range(number + 1)]
        await connection.send("XADD", KEY + "s", "*", "field", "value")
        assert list(await blocked) == [(KEY + "s").encode()], "a read that waits goes along, too"
        await reader.close()
        await connection.close()
    finally:
        cluster.stop()


async def test_a_replica_that_is_asked_for_as_one_server(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    connection = RedisConnection(servers_of(watched.replica.url))
    with pytest.raises(BusUnavailable, match="^the queue's server does not take writes just now$"):
        await connection.send("SET", KEY, "1")
    await connection.close()
    assert "READONLY" in caplog.text


async def test_a_password_is_in_no_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    server = RedisProcess(tmp_path, "requirepass right")
    for url in (server.url.replace("//", "//ann:s3cret@"), f"redis://:s3cret@127.0.0.1:{free_port()}"):
        connection = RedisConnection(servers_of(url))
        with pytest.raises(BusUnavailable) as caught:
            await connection.send("PING")
        assert "s3cret" not in repr(caught.value)
        await connection.close()
    server.kill()
    assert "WRONGPASS" in caplog.text and "127.0.0.1" in caplog.text and "s3cret" not in caplog.text


def test_files_of_tls_that_hold_something_else(tmp_path: Path) -> None:
    text = tmp_path / "text.pem"
    text.write_text("no certificate")
    for name in ("ca", "cert"):
        settings = Settings(redis_url="rediss://h", **{f"redis_{name}_file": str(text)})  # type: ignore[arg-type]
        with pytest.raises(SettingsError, match=f"^VISCPM_REDIS_{name.upper()}_FILE={text}: holds no certificate"):
            RedisServers(settings, KEY)
