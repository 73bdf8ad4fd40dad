"""The embedded server: data kept over a crash, one owner for a folder, no orphan."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

from service.process.embedded_redis import EmbeddedServer, EmbeddedServerError

pytestmark = pytest.mark.own_process


def test_data_outlives_a_kill(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path)
    server.start()
    with redis.Redis.from_url(server.url, protocol=3) as client:
        client.set("kept", b"\x00\xff")
        client.xadd("stream", {"field": "value"})
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        time.sleep(1.2)  # everysec: what is older than a second is on disk
    assert server.process is not None
    server.process.kill()
    server.process.wait()
    server.start()
    with redis.Redis.from_url(server.url, protocol=3) as client:
        assert client.get("kept") == b"\x00\xff"
        assert client.xlen("stream") == 1
    server.stop()
    assert not server.socket_path.exists()


def test_a_clean_stop_loses_nothing(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server, redis.Redis.from_url(server.url, protocol=3) as client:
        client.set("last", "word")
    with EmbeddedServer(tmp_path) as server, redis.Redis.from_url(server.url, protocol=3) as client:
        assert client.get("last") == b"word"


def test_a_long_data_path_still_gets_a_socket(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    with EmbeddedServer(folder) as server, redis.Redis.from_url(server.url, protocol=3) as client:
        assert len(os.fsencode(server.socket_path)) < 104
        assert server.socket_path.parent.stat().st_mode & 0o777 == 0o700
        assert client.ping()
    server.socket_path.parent.rmdir()


def test_a_path_with_odd_characters_survives_the_url(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path / "数据 %20#?") as server, redis.Redis.from_url(server.url, protocol=3) as client:
        assert client.ping()


def test_a_second_server_on_the_same_folder_is_refused_in_one_line(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path):
        with pytest.raises(EmbeddedServerError) as caught:
            EmbeddedServer(tmp_path).start()
        message = str(caught.value)
        assert "in use" in message and str(os.getpid()) in message and "\n" not in message


def test_memory_limit_refuses_writes(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path, max_memory_bytes=4_000_000)
    with server, redis.Redis.from_url(server.url, protocol=3) as client:
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            for i in range(200):
                client.set(f"key{i}", b"x" * 100_000)
        assert client.get("key0") == b"x" * 100_000


def test_a_broken_file_is_told_in_one_line(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server, redis.Redis.from_url(server.url, protocol=3) as client:
        client.set("a", "b")
    for path in (tmp_path / "valkey" / "appendonlydir").glob("*.incr.aof"):
        path.write_bytes(b"not an append-only file, at all\r\n" * 4)
    server = EmbeddedServer(tmp_path)
    with pytest.raises(EmbeddedServerError, match="exited with 1") as caught:
        server.start()
    assert "\n" not in str(caught.value)
    server.stop()


@pytest.mark.parametrize("death", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.skipif(sys.platform != "linux", reason="Linux: a child is tied to its parent by prctl")
def test_the_server_dies_with_its_parent(tmp_path: Path, death: signal.Signals) -> None:
    code = (
        "import sys, time; from pathlib import Path; from service.process.embedded_redis import EmbeddedServer\n"
        "server = EmbeddedServer(Path(sys.argv[1])); server.start(); print(server.process.pid, flush=True)\n"
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        server_pid = int(parent.stdout.readline())
        parent.send_signal(death)
    deadline_s = time.monotonic() + 5
    while _is_alive(server_pid):
        assert time.monotonic() < deadline_s, f"process {server_pid} outlived its parent"
        time.sleep(0.02)
    with EmbeddedServer(tmp_path):  # and the folder is free again
        pass


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # pid 1 of a container may not reap
