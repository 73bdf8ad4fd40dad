"""Servers that are there, away, and not as they have to be."""

from collections.abc import Callable
from pathlib import Path

import pytest

from service.core.settings import Settings
from service.doctor.queue_server import check_queue_server
from service.process.embedded_redis import EmbeddedServer
from service.process.server_check import acl_rule
from tests.redis_servers import RedisProcess, free_port

pytestmark = pytest.mark.own_process

Start = Callable[..., RedisProcess]


def test_a_server_is_told_with_version_policy_memory_and_latency(start_redis: Start) -> None:
    server = start_redis("maxmemory 64mb")
    found = check_queue_server(Settings(redis_url=server.url))
    [told] = found.findings
    assert told.level == "ok"
    for words in ("Valkey 9.", server.url, "maxmemory-policy noeviction", "MiB used of 64", " ms (at most "):
        assert words in told.found
    assert found.url == server.url
    assert found.clock_ahead_s is not None and abs(found.clock_ahead_s) < 0.5, "the same clock"


@pytest.mark.parametrize(
    ("options", "password", "url", "found", "fix"),
    [
        (["requirepass right"], "right", "redis://127.0.0.1:{}", "wants a password", "put it into the URL"),
        ([], "", "redis+cluster://127.0.0.1:{}", "is no cluster", "correct how VISCPM_REDIS_URL begins"),
        (['rename-command XAUTOCLAIM ""'], "", "redis://127.0.0.1:{}", "lacks XAUTOCLAIM", "without rename-command"),
    ],
)
def test_what_is_not_as_it_has_to_be(
    start_redis: Start, options: list[str], password: str, url: str, found: str, fix: str
) -> None:
    server = start_redis(*options, password=password)
    [told] = check_queue_server(Settings(redis_url=url.format(server.port))).findings
    assert told.level == "problem"
    assert found in told.found and fix in told.fix and told.cause


def test_too_few_rights(start_redis: Start) -> None:
    server = start_redis()
    server.call("ACL", "SETUSER", *acl_rule("viscpm").split())
    settings = Settings(redis_url=server.url.replace("//", "//viscpm:PASSWORD@"))
    assert check_queue_server(settings).findings[0].level == "ok"
    server.call("ACL", "SETUSER", "viscpm", "-xadd")
    [told] = check_queue_server(settings).findings
    assert "refuses its user +xadd" in told.found and "ACL SETUSER viscpm on >PASSWORD" in told.fix


def test_nobody_there() -> None:
    url = f"redis://127.0.0.1:{free_port()}"
    found = check_queue_server(Settings(redis_url=url))
    [told] = found.findings
    assert told.level == "problem" and told.found.startswith(f"the queue's server {url} does not answer (")
    assert found.url == ""


def test_the_embedded_server_before_and_while_it_runs(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert check_queue_server(settings).findings[0].found.startswith("`viscpm serve` will start the embedded Valkey")
    with EmbeddedServer(tmp_path) as server:
        found = check_queue_server(settings)
        assert found.url == server.url and "maxmemory-policy noeviction" in found.findings[0].found
        assert server.process is not None
        server.process.kill()
        server.process.wait()
        assert server.socket_path.exists()
        [told] = check_queue_server(settings).findings
        assert told.level == "ok" and told.found.startswith("`viscpm serve` will start"), "its socket is left"
