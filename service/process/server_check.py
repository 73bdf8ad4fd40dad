"""Whether a server is fit to hold the queue, asked once when a process starts: one clear line where it is not.

A server that is merely away is waited for; this is about what waiting does not mend.
"""

import asyncio
import logging
import secrets
from collections.abc import Sequence

from redis.exceptions import RedisError, ResponseError

from service.redis.errors import Outage, outage_of
from service.redis.primary import CALL_LIMIT_S, RedisServers, UnknownService
from service.redis.server_connection import Argument, ServerConnection

_log = logging.getLogger(__name__)

_KEY = "KEY"  # stands for a key of this check's own
_NEEDS = "Redis 6.2, Valkey 7.2 or newer is needed"
_DOCS = "docs/operations/redis.md"

# Every command that this service sends or its scripts call, as it may be asked for without harm
_COMMANDS: tuple[tuple[Argument, ...], ...] = (
    ("SET", _KEY, "0", "PX", 10_000),  # others find a string, and say so: then they are known and allowed
    ("GET", _KEY),
    ("MGET", _KEY),
    ("STRLEN", _KEY),
    ("GETBIT", _KEY, 0),
    ("SETBIT", _KEY, 0, 0),
    ("INCRBY", _KEY, 0),
    ("DECRBY", _KEY, 0),
    ("EXISTS", _KEY),
    ("PEXPIRE", _KEY, 10_000),
    ("PTTL", _KEY),
    ("RENAME", _KEY, _KEY),
    ("HSET", _KEY, "a", "b"),
    ("HGET", _KEY, "a"),
    ("HMGET", _KEY, "a"),
    ("HGETALL", _KEY),
    ("HDEL", _KEY, "a"),
    ("HEXISTS", _KEY, "a"),
    ("HINCRBY", _KEY, "a", 0),
    ("HLEN", _KEY),
    ("HSTRLEN", _KEY, "a"),
    ("RPUSH", _KEY, "a"),
    ("LRANGE", _KEY, 0, 0),
    ("LINDEX", _KEY, 0),
    ("LSET", _KEY, 0, "a"),
    ("LLEN", _KEY),
    ("LPOP", _KEY),
    ("RPOP", _KEY),
    ("ZADD", _KEY, 0, "a"),
    ("ZCARD", _KEY),
    ("ZCOUNT", _KEY, 0, 0),
    ("ZRANGE", _KEY, 0, 0),
    ("ZRANK", _KEY, "a"),
    ("ZRANGEBYLEX", _KEY, "-", "+"),
    ("ZLEXCOUNT", _KEY, "-", "+"),
    ("ZREVRANK", _KEY, "a"),
    ("ZRANGEBYSCORE", _KEY, 0, 0),
    ("ZREM", _KEY, "a"),
    ("ZREMRANGEBYRANK", _KEY, 0, 0),
    ("ZREMRANGEBYSCORE", _KEY, 0, 0),
    ("ZSCORE", _KEY, "a"),
    ("XADD", _KEY, "*", "a", "b"),
    ("XDEL", _KEY, "1-1"),
    ("XLEN", _KEY),
    ("XRANGE", _KEY, "-", "+"),
    ("XREVRANGE", _KEY, "+", "-"),
    ("XREAD", "STREAMS", _KEY, "0"),
    ("XREADGROUP", "GROUP", "a", "b", "STREAMS", _KEY, ">"),
    ("XGROUP", "CREATE", _KEY, "a", "0"),
    ("XGROUP", "DELCONSUMER", _KEY, "a", "b"),
    ("XINFO", "CONSUMERS", _KEY, "a"),
    ("XPENDING", _KEY, "a"),
    ("XACK", _KEY, "a", "1-1"),
    ("XCLAIM", _KEY, "a", "b", 0, "1-1"),
    ("XAUTOCLAIM", _KEY, "a", "b", 0, "0"),
    ("EVAL", "return 1", 1, _KEY),
    ("EVALSHA", "0" * 40, 1, _KEY),
    ("TIME",),
    ("UNLINK", _KEY),
    ("DEL", _KEY),
)
_SERVES_NOBODY = frozenset({"LOADING", "MASTERDOWN", "CLUSTERDOWN", "READONLY", "MOVED"})
_CONTAINERS = frozenset({"XGROUP", "XINFO", "CLUSTER", "CONFIG"})  # commands whose second word is one, too


class ServerUnfit(Exception):
    """The server must not be used as it is; the message is one line."""


def acl_rule(prefix: str, user: str = "viscpm", password: str = "PASSWORD") -> str:
    """The arguments of ACL SETUSER for a user that has the rights this service needs, and no more."""
    needed = [_name(command) for command in _COMMANDS]
    # INFO for this check; ROLE with sentinels, CLUSTER SLOTS in a cluster, SELECT for a database other than 0
    rights = sorted({*needed, "info", "role", "cluster|slots", "select"})
    return (
        f"{user} on >{password} resetkeys ~{{{prefix}}}:* resetchannels -@all {' '.join(f'+{one}' for one in rights)}"
    )


async def check_server(servers: RedisServers) -> None:
    """Raises ServerUnfit. A server that does not answer passes: it is waited for, which the log says."""
    try:
        async with asyncio.timeout(2 * CALL_LIMIT_S):
            connection = await servers.connect()
            try:
                await _check(servers, connection)
            finally:
                await connection.close()
    except (RedisError, OSError, TimeoutError) as error:
        if reason := _lasting(error, outage_of(error, CALL_LIMIT_S)):
            raise ServerUnfit(f"the queue's server {servers.url} {reason}") from None
        servers.failed(error, None)
        _log.warning("waiting for the queue's server %s", servers.url)


def _lasting(error: BaseException, outage: Outage) -> str:
    """Why waiting does not help; empty where it may."""
    said = f"({outage.detail})"
    if isinstance(error.__cause__, UnknownService):
        return f"is not found: {outage.detail}"
    if "cluster support disabled" in outage.detail:
        return f"is no cluster: VISCPM_REDIS_URL begins with redis:// for one server {said}"
    reasons = {
        "WRONGPASS": f"refuses the user and password of VISCPM_REDIS_URL {said}",
        "AUTH": f"refuses the user and password of VISCPM_REDIS_URL {said}",
        "NOAUTH": "wants a password, and VISCPM_REDIS_URL has none: redis://user:password@host",
        "NOPERM": f"refuses a command that this service needs: {_DOCS} has the rule for its user {said}",
        "DENIED": "is in protected mode and lets in nobody from elsewhere: give it a password, or protected-mode no",
        "TLS": f"and this service do not agree on TLS {said}",
        "PROTOCOL": f"does not speak the Redis protocol there; where it wants TLS, the URL is rediss:// {said}",
        "UNKNOWN": f"lacks a command that this service needs: {_NEEDS} {said}",
    }
    return reasons.get(outage.code, "")


async def _check(servers: RedisServers, connection: ServerConnection) -> None:
    refused = []
    try:
        info = _fields(await connection.ask("INFO"))
    except ResponseError as error:
        if outage_of(error, CALL_LIMIT_S).code != "NOPERM":
            raise
        refused.append("info")
    else:
        _check_info(servers, info)
        await _check_policy(servers, connection, info.get("maxmemory_policy", ""))
    key = f"{servers.slot_key}:start-check:{secrets.token_hex(8)}"
    commands = [tuple(key if part == _KEY else part for part in command) for command in _COMMANDS]
    unknown = []
    for command, reply in zip(commands, await connection.ask_all(commands), strict=True):
        if not isinstance(reply, Exception):
            continue
        code = outage_of(reply, CALL_LIMIT_S).code
        if code == "NOPERM" and "key" in str(reply).split("permissions", 1)[-1]:
            raise ServerUnfit(
                f"the queue's server {servers.url} keeps its user from keys that begin with {servers.slot_key}: "
                f"{_DOCS} has the rule"
            )
        if code == "NOPERM":
            refused.append(_name(command))
        elif code == "UNKNOWN":
            unknown.append(str(command[0]))
        elif code in _SERVES_NOBODY or not isinstance(reply, ResponseError):
            raise reply
    if unknown:
        raise ServerUnfit(f"the queue's server {servers.url} lacks {', '.join(unknown)}: {_NEEDS}")
    if refused:
        rights = " ".join(f"+{name}" for name in refused)
        raise ServerUnfit(f"the queue's server {servers.url} refuses its user {rights}: {_DOCS} has the rule")


def _check_info(servers: RedisServers, info: dict[str, str]) -> None:
    is_cluster = info.get("cluster_enabled") == "1"
    if "sentinel" in (info.get("redis_mode"), info.get("server_mode")):
        raise ServerUnfit(
            f"the server {servers.url} is a sentinel: VISCPM_REDIS_URL is redis+sentinel://host,…/service"
        )
    if is_cluster and servers.url.topology != "cluster":
        raise ServerUnfit(f"the queue's server {servers.url} is a cluster's node: the URL is redis+cluster://host,…")
    if info.get("role") == "slave" and servers.url.topology == "single":
        raise ServerUnfit(f"the queue's server {servers.url} is a replica: VISCPM_REDIS_URL has to name the primary")


async def _check_policy(servers: RedisServers, connection: ServerConnection, policy: str) -> None:
    if not policy:  # of a server, or a service in front of one, that does not tell it there
        try:
            reply = await connection.ask("CONFIG", "GET", "maxmemory-policy")
            policy = reply.get(b"maxmemory-policy", b"").decode()
        except ResponseError:
            _log.warning("the queue's server %s does not tell whether it evicts keys", servers.url)
            return
    if policy and policy != "noeviction":
        raise ServerUnfit(
            f"the queue's server {servers.url} has maxmemory-policy {policy}, which evicts jobs and conversations: "
            "it must be noeviction"
        )


def _name(command: Sequence[Argument]) -> str:
    """As an ACL rule has it: xgroup|create."""
    words = command[:2] if command[0] in _CONTAINERS else command[:1]
    return "|".join(str(word).lower() for word in words)


def _fields(info: bytes | str) -> dict[str, str]:
    text = info.decode(errors="replace") if isinstance(info, bytes) else info
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
