"""VISCPM_REDIS_URL in its parts: one server, sentinels that know the primary, or some nodes of a cluster.

    redis://[user:password@]host[:port][/db]              rediss:// with TLS
    unix://[user:password@]/path/of/the/socket[?db=N]
    redis+sentinel://[user:password@]host[:port],…/service[/db][?sentinel_user=…&sentinel_password=…]
    redis+cluster://[user:password@]host[:port],…         rediss+… with TLS

User and password are percent-decoded. No error says anything of what stands where a password may stand.
"""

import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl, unquote

Topology = Literal["single", "sentinel", "cluster"]

_SCHEMES: dict[str, tuple[Topology, bool]] = {  # and whether with TLS
    "redis": ("single", False),
    "rediss": ("single", True),
    "unix": ("single", False),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}
_SERVER_PORT = 6379
_SENTINEL_PORT = 26379
_HOST = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::(.*))?|([^\[\]:/]+)(?::(.*))?")
_PASSWORD_RULE = "in user and password the characters : / ? # @ and % are written percent-encoded (/ is %2F)"


@dataclass(frozen=True)
class Credentials:
    """What a connection says who it is; an empty password: nothing."""

    user: str = ""  # empty: the server's default user
    password: str = field(default="", repr=False)


@dataclass(frozen=True)
class RedisUrl:
    """Where the queue's server is. `hosts` are the server, the sentinels, or some nodes of the cluster."""

    topology: Topology
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""  # of a unix socket; then there are no hosts
    has_tls: bool = False
    credentials: Credentials = Credentials()
    sentinel_credentials: Credentials | None = None  # None: the server's, where a sentinel asks for any
    service: str = ""  # what the sentinels call the primary
    db: int = 0

    def __str__(self) -> str:
        """For logs: without credentials."""
        if self.path:
            return f"unix://{self.path}"
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        scheme = next(name for name, kind in _SCHEMES.items() if kind == (self.topology, self.has_tls))
        return f"{scheme}://{hosts}" + (f"/{self.service}" if self.service else "")


def parse_redis_url(text: str) -> RedisUrl:
    """Raises ValueError: one line without user, password or host."""
    scheme, separator, rest = text.partition("://")
    if not separator or scheme.lower() not in _SCHEMES:
        is_told = separator and re.fullmatch(r"[A-Za-z+.-]{1,20}", scheme)
        got = f"it begins with {scheme}://" if is_told else "it begins with none of them"
        raise ValueError(f"must begin with one of {', '.join(f'{name}://' for name in _SCHEMES)}; {got}")
    topology, has_tls = _SCHEMES[scheme.lower()]
    # Not urlsplit: of several hosts it refuses [ ] in all but the first
    location, _, query = rest.partition("?")
    authority, slash, path = location.partition("/")
    if "#" in rest or "@" in path + query:
        raise ValueError(f"cannot be read: {_PASSWORD_RULE}")
    user_part, _, host_part = authority.rpartition("@")
    credentials = _credentials(user_part)
    options = _options(query, topology)
    if scheme.lower() == "unix":
        if host_part or len(path) < 1:
            raise ValueError("names no socket: it is unix:///absolute/path, with three slashes")
        return RedisUrl(topology, path=unquote(slash + path), credentials=credentials, db=_db(options.get("db", "")))
    hosts = _hosts(host_part, _SENTINEL_PORT if topology == "sentinel" else _SERVER_PORT)
    if topology == "single" and len(hosts) > 1:
        raise ValueError(
            "names several hosts: sentinels come after redis+sentinel://, a cluster after redis+cluster://"
        )
    service, db = _service_and_db(path, topology)
    sentinel_credentials = None
    if "sentinel_user" in options or "sentinel_password" in options:
        sentinel_credentials = Credentials(options.get("sentinel_user", ""), options.get("sentinel_password", ""))
    return RedisUrl(
        topology,
        hosts,
        has_tls=has_tls,
        credentials=credentials,
        sentinel_credentials=sentinel_credentials,
        service=service,
        db=_db(options["db"]) if "db" in options else db,
    )


def _credentials(user_part: str) -> Credentials:
    if not user_part:
        return Credentials()
    user, _, password = user_part.partition(":")
    if not password:
        raise ValueError("has a user without a password: it is user:password@, or :password@ for the default user")
    return Credentials(unquote(user), unquote(password))


def _hosts(text: str, default_port: int) -> tuple[tuple[str, int], ...]:
    hosts = []
    for number, one in enumerate(text.split(","), 1):
        match = _HOST.fullmatch(one)
        if match is None:
            raise ValueError(
                f"has no host in place {number}: it is host or host:port, with a comma between several, and an IPv6 "
                "address in [ ]"
            )
        host = match[1] or match[3]
        port = match[2] if match[1] else match[4]
        hosts.append((host, default_port if port is None else _port(port, number)))
    return tuple(hosts)


def _port(text: str, number: int) -> int:
    if re.fullmatch(r"[0-9]{1,5}", text) is None or not 1 <= int(text) <= 65535:
        raise ValueError(
            f"has after host {number} a port that is no number from 1 to 65535, or a password: {_PASSWORD_RULE}"
        )
    return int(text)


def _service_and_db(path: str, topology: Topology) -> tuple[str, int]:
    segments = [unquote(segment) for segment in path.split("/") if segment]
    if topology == "sentinel":
        if not 1 <= len(segments) <= 2:
            raise ValueError("must name the service that the sentinels watch: redis+sentinel://host,…/service[/db]")
        return segments[0], _db(segments[1] if len(segments) == 2 else "")
    if len(segments) > 1:
        raise ValueError("has more after its host than the number of a database")
    db = _db(segments[0] if segments else "")
    if topology == "cluster" and db:
        raise ValueError("names a database: a cluster has number 0 alone")
    return "", db


def _db(text: str) -> int:
    if not text:
        return 0
    if re.fullmatch(r"[0-9]{1,5}", text) is None:
        raise ValueError("has a database that is no number")
    return int(text)


def _options(query: str, topology: Topology) -> dict[str, str]:
    allowed = {"single": ("db",), "sentinel": ("sentinel_user", "sentinel_password"), "cluster": ()}[topology]
    try:
        options = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    except ValueError:
        raise ValueError(f"cannot be read after its ?: name=value is allowed, and {_PASSWORD_RULE}") from None
    if not set(options) <= set(allowed):
        raise ValueError(
            f"has something unknown after its ?: allowed here is {' and '.join(allowed) or 'nothing'} (TLS has the "
            "variables VISCPM_REDIS_CA_FILE, VISCPM_REDIS_CERT_FILE and VISCPM_REDIS_KEY_FILE)"
        )
    return options
