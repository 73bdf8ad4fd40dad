"""What the server's errors mean, in one place: all but a bug of a script are an outage, "unavailable, try again".

An outage has two texts. Clients read `told`, which is ours; the log gets `detail`, the server's own words.
"""

import re
import ssl
from collections.abc import Iterator
from typing import NamedTuple

from redis.exceptions import AuthenticationError, InvalidResponse, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

# What a caller asked for and cannot have: its own bug, or an answer that it waits for
_CALLERS = frozenset(
    {"ERR", "WRONGTYPE", "CROSSSLOT", "BUSYKEY", "EXECABORT", "NOSCRIPT", "NOGROUP", "BUSYGROUP", "NOTBUSY"}
)
_NO_WRITES = frozenset({"READONLY", "MISCONF", "OOM", "NOREPLICAS"})
_NOT_LET_IN = frozenset({"NOAUTH", "WRONGPASS", "NOPERM", "DENIED", "AUTH", "TLS", "NOPROTO", "UNKNOWN"})
_STAYS_PRIMARY = frozenset({"MISCONF", "OOM", "NOREPLICAS", "BUSY", "NOPERM", "TRYAGAIN", "UNKNOWN"})

_WORD = re.compile(r"[A-Z][A-Z0-9_]+(?= |$)")
_WRAPPED = re.compile(
    r"(?:^|[\s:])-([A-Z][A-Z0-9_]+) "
)  # a command's error as a server before 7.0 tells it of a script
_UNKNOWN = re.compile(r"unknown (redis |valkey )?command|unknown subcommand", re.IGNORECASE)


class NoPrimary(RedisError):
    """There is no connection to a primary; the message says who said what, its cause is what the last one said."""


class Outage(NamedTuple):
    """Why the server does not serve.

    Args:
        code: the server's word for it, or "no connection", "no reply", "AUTH", "TLS", "PROTOCOL", "UNKNOWN" (command).
        told: for clients; neither addresses nor the server's words.
        detail: for the log.
        is_elsewhere: the connection is of no more use, and the primary may be another server by now.
    """

    code: str
    told: str
    detail: str
    is_elsewhere: bool


def is_callers_own(error: BaseException) -> bool:
    """Whether a reply is no outage: a script's bug, or an answer that its caller handles (NOGROUP, BUSYGROUP)."""
    return isinstance(error, ResponseError) and _code(error) in _CALLERS


def outage_of(error: BaseException, limit_s: float) -> Outage:
    """What an error means that is no caller's own. `limit_s`: what a call that got no reply had."""
    if isinstance(error, TimeoutError | RedisTimeoutError):
        reason = f"no reply within {limit_s:g} s"
        return Outage("no reply", f"the queue's server does not answer: {reason}", reason, True)
    code = "TLS" if any(_is_of_tls(one) for one in (error, *_causes(error))) else _code(error)
    return Outage(code, _told(code), _said(error), code not in _STAYS_PRIMARY)


def _told(code: str) -> str:
    if code in _NO_WRITES:
        return "the queue's server does not take writes just now"
    if code in _NOT_LET_IN:
        return "the queue's server does not let this service in"
    if code == "no connection":
        return "the queue's server does not answer: no connection"
    return "the queue's server cannot serve just now"


def _code(error: BaseException) -> str:
    """The first word of the server's error; for what is no word of a server, ours."""
    error = _unwrapped(error)
    if isinstance(error, NoPrimary):
        return "no primary"
    if isinstance(error, InvalidResponse):
        return "PROTOCOL"
    said = str(error)
    if _UNKNOWN.search(said):
        return "UNKNOWN"
    word = _WORD.match(said)
    code = getattr(error, "status_code", None) or (
        word[0] if word else ""
    )  # redis-py cuts off those it has a class for
    if code == "ERR" and (wrapped := _WRAPPED.search(said)):
        code = wrapped[1]
    if isinstance(error, RedisConnectionError | OSError) and code in ("", "ERR"):
        return "AUTH" if isinstance(error, AuthenticationError) else "no connection"
    return code or (type(error).__name__ if not isinstance(error, ResponseError) else "ERR")


def _unwrapped(error: BaseException) -> BaseException:
    """The server's answer to a handshake, which redis-py wraps on a unix socket, and what NoPrimary is for."""
    while isinstance(error, RedisConnectionError | NoPrimary) and isinstance(error.__cause__, RedisError | OSError):
        error = error.__cause__
    return error


def _is_of_tls(error: BaseException) -> bool:
    """Certificates and protocols; not a connection that ended while it was made."""
    return isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError)


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause = error.__cause__ or error.__context__
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _said(error: BaseException) -> str:
    if not isinstance(error, NoPrimary):
        error = _unwrapped(error)
    code = getattr(error, "status_code", None)
    text = " ".join(str(error).split()) or type(error).__name__
    return f"{code} {text}" if code else text
