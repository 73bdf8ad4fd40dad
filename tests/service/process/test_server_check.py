"""A server that is not fit is told in one line before a process begins; one that is away is waited for."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.core.settings import Settings
from service.process.server_check import ServerUnfit, acl_rule, check_server
from service.redis.primary import RedisServers
from tests.redis_servers import Cluster, RedisProcess, Watched, free_port

pytestmark = pytest.mark.own_process

ROOT = Path(__file__).parents[3]
SOURCES = [*(ROOT / "service").rglob("*.py"), *(ROOT / "service/redis").glob("*.lua")]
SLOT_KEY = "{viscpm}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisProcess]:
    started = RedisProcess(tmp_path)
    yield started
    started.kill()


async def unfit(url: str, slot_key: str = SLOT_KEY) -> str:
    with pytest.raises(ServerUnfit) as refused:
        await check_server(RedisServers(Settings(redis_url=url), slot_key))
    assert "\n" not in str(refused.value)
    return str(refused.value)


async def fit(url: str) -> None:
    await check_server(RedisServers(Settings(redis_url=url), SLOT_KEY))


@pytest.mark.parametrize(
    ("options", "url", "message"),
    [
        (["requirepass right"], "redis://127.0.0.1:{port}", "wants a password, and VISCPM_REDIS_URL has none"),
        (["requirepass right"], "redis://:wrong@127.0.0.1:{port}", "refuses the user and password .*WRONGPASS"),
        (["requirepass right"], "redis://ann:right@127.0.0.1:{port}", "refuses the user and password .*WRONGPASS"),
        (
            ["maxmemory-policy allkeys-lru"],
            "redis://127.0.0.1:{port}",
            "maxmemory-policy allkeys-lru, .* be noeviction",
        ),
        (["maxmemory-policy volatile-ttl"], "redis://127.0.0.1:{port}", "maxmemory-policy volatile-ttl"),
        (
            ['rename-command XAUTOCLAIM ""', 'rename-command CONFIG ""'],
            "redis://127.0.0.1:{port}",
            "lacks XAUTOCLAIM: Redis 6.2, Valkey 7.2 or newer is needed",
        ),
        ([], "redis+cluster://127.0.0.1:{port}", "is no cluster"),
    ],
)
async def test_what_waiting_does_not_mend(tmp_path: Path, options: list[str], url: str, message: str) -> None:
    server = RedisProcess(tmp_path, *options, password="right" if "requirepass right" in options else "")
    try:
        assert re.search(message, told := await unfit(url.format(port=server.port))), told
    finally:
        server.kill()


async def test_the_right_password_is_let_in(tmp_path: Path) -> None:
    for options in ([], ['rename-command HELLO ""']):
        server = RedisProcess(tmp_path, "requirepass right", *options, password="right")
        await fit(server.url.replace("//", "//:right@"))
        server.kill()


async def test_protected_mode(tmp_path: Path) -> None:
    """As for a client on another machine: to this one's own addresses but 127.0.0.1 it is refused, too."""
    address = _own_address()
    server = RedisProcess(tmp_path, f"bind 127.0.0.1 {address}")
    told = await unfit(f"redis://{address}:{server.port}")
    assert "is in protected mode and lets in nobody from elsewhere" in told
    server.kill()


async def test_users_with_too_few_rights(server: RedisProcess) -> None:
    url = server.url.replace("//", "//viscpm:PASSWORD@")
    server.call("ACL", "SETUSER", *acl_rule("viscpm").split())
    await fit(url)
    assert server.call("DBSIZE") == 0, "the check leaves nothing"
    assert "keeps its user from keys that begin with {other}" in await unfit(url, "{other}")
    server.call("ACL", "SETUSER", "viscpm", "-xadd", "-xgroup|create", "-eval")
    told = await unfit(url)
    assert told.endswith("refuses its user +xadd +xgroup|create +eval: docs/operations/redis.md has the rule")
    server.call("ACL", "SETUSER", "viscpm", "-info")
    assert "refuses its user +info +xadd" in await unfit(url)


async def test_a_replica_or_a_sentinel_that_is_asked_for_as_one_server(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    try:
        assert "is a replica: VISCPM_REDIS_URL has to name the primary" in await unfit(watched.replica.url)
        assert "is a sentinel: VISCPM_REDIS_URL is redis+sentinel://" in await unfit(watched.sentinels[0].url)
        assert "knows no service 'other'" in await unfit(watched.url.replace("/main", "/other"))
        await fit(watched.url)
    finally:
        watched.stop()


async def test_a_clusters_node_that_is_asked_for_as_one_server(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, num_replicas=0)
    try:
        assert "is a cluster's node: the URL is redis+cluster://" in await unfit(cluster.nodes[0].url)
        await fit(cluster.url)
    finally:
        cluster.stop()


async def test_what_is_merely_away_is_waited_for(server: RedisProcess, caplog: pytest.LogCaptureFixture) -> None:
    await fit(f"redis://127.0.0.1:{free_port()}")
    with server.hung():
        await fit(server.url)
    assert caplog.text.count("waiting for the queue's server redis://127.0.0.1:") == 2


@pytest.mark.parametrize("role", [["api", "--port", "0"], ["worker", "chat"], ["serve", "--port", "0"]])
def test_every_role_ends_with_one_line(tmp_path: Path, role: list[str]) -> None:
    server = RedisProcess(tmp_path, "requirepass right", password="right")
    variables = {"VISCPM_REDIS_URL": server.url.replace("//", "//:s3cret@"), "VISCPM_DATA_DIR": str(tmp_path / "data")}
    ended = subprocess.run(
        [sys.executable, "-m", "service.process.cli", *role],
        env={**os.environ, **variables, "VISCPM_SAFETY": "off"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    server.kill()
    assert ended.returncode == 2
    [line] = ended.stderr.splitlines()
    assert line.startswith(f"viscpm: the queue's server {server.url} refuses the user and password"), line
    assert "s3cret" not in ended.stderr + ended.stdout


def test_the_rule_has_every_command_that_is_used_and_no_other() -> None:
    used = set()
    for path in SOURCES:
        text = path.read_text("utf-8")
        if path.name in ("server_check.py", "embedded_redis.py"):
            continue
        for name, second in re.findall(r"redis\.p?call\('([A-Z]+)'(?:, *'([A-Z]+)')?", text):
            used.add(_right(name, second))
        for name, second in re.findall(r'(?:send|ask|_ask|read)\(\s*(?:address, )?"([A-Z]+)"(?:, "([A-Z]+)")?', text):
            used.add(_right(name, second))
        for name, second in re.findall(r'(?:command|= |\()\(?"(X[A-Z]+|HGET|LRANGE|PTTL)"(?:, "([A-Z]+)")?', text):
            used.add(_right(name, second))
    used -= {"sentinel", "config"}  # said to sentinels; and where it is refused the check does without
    rule = acl_rule("viscpm")
    granted = {right for right in rule.split() if right.startswith("+")}
    assert granted == {f"+{right}" for right in used | {"eval", "info", "select"}}


def _right(name: str, second: str) -> str:
    return f"{name}|{second}".lower() if name in ("XGROUP", "XINFO", "CLUSTER") else name.lower()


def test_the_documents_have_the_rule() -> None:
    assert f"ACL SETUSER {acl_rule('viscpm')}\n" in (ROOT / "docs/operations/redis.md").read_text("utf-8")


def _own_address() -> str:
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing: it asks for the address that would be used
        address: str = probe.getsockname()[0]
        return address
