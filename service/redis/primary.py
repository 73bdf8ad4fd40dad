"""Who the current primary is, and connections to it: one server, one that sentinels watch, or a cluster's node.

All connections of a process share what one of them learns: where one finds that its server no longer serves, the
others look the primary up anew before their next call, so that none goes on with a server that was demoted.
"""

import asyncio
import logging
import ssl
import time
from collections import deque
from typing import Any

from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.crc import key_slot
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from service.core.redis_url import Credentials, parse_redis_url
from service.core.settings import Settings, SettingsError
from service.redis.errors import NoPrimary, Outage, outage_of
from service.redis.server_connection import Address, Argument, ServerConnection

_log = logging.getLogger(__name__)

CALL_LIMIT_S = 2.0  # of a call, from its queuing to its reply: connecting and finding the primary included
CONNECT_LIMIT_S = 1.0  # to one server
ASK_LIMIT_S = 0.3  # to ask one sentinel or node who the primary is: then the next one is asked
QUIET_S = 10.0  # one outage is told once: again when its kind was away for this long

# Handshakes that are refused in these words are tried again with RESP2
_NO_RESP3 = frozenset({"UNKNOWN", "NOPROTO", "ERR", "NOPERM", "NOAUTH"})


class RedisServers:
    """What VISCPM_REDIS_URL names.

    Args:
        slot_key: a key in the hash slot of all keys of the queue; in a cluster, its node is the primary.

    Raises SettingsError where a file of TLS cannot be used.
    """

    def __init__(self, settings: Settings, slot_key: str) -> None:
        self.url = parse_redis_url(settings.redis_url)
        self.slot_key = slot_key
        self._slot = key_slot(slot_key.encode())
        self._tls = _tls_context(settings) if self.url.has_tls else None
        self._protocol = 3
        self._known = deque(self.url.hosts)  # whom to ask: sentinels, or nodes; the one that answered last is the first
        self._primary: Address | None = None
        self._epoch = 0
        self._told: dict[str, float] = {}  # when an outage of a kind was seen last, by its code
        self._was_away = False
        # Of reads that wait at the server: they end when another connection finds another primary
        self.waiting: set[ServerConnection] = set()

    async def connect(self) -> ServerConnection:
        """A new connection to the primary. Raises RedisError (no ResponseError), OSError, TimeoutError."""
        try:
            async with asyncio.timeout(CALL_LIMIT_S):
                connection = await self._connect(self._epoch)
        except BaseException as error:
            self._primary = None  # those who have a connection keep it
            if isinstance(error, ResponseError):
                raise NoPrimary(str(error)) from error
            raise
        if self._was_away:
            self._was_away = False
            _log.info("the queue's server %s answers", self.url)
            for waiting in [one for one in self.waiting if one.address != connection.address]:
                await waiting.close()  # its server is the primary no more, and may hang: nothing comes of its wait
        return connection

    def is_current(self, connection: ServerConnection) -> bool:
        """False: since it was opened another connection found that the primary has to be looked up anew."""
        return connection.epoch == self._epoch

    def suspect(self, epoch: int) -> None:
        """Look the primary up anew, unless somebody has since `epoch`."""
        if epoch == self._epoch:
            self._epoch += 1
            self._primary = None

    def moved(self, connection: ServerConnection, host: str, port: int) -> bool:
        """A node says that another one has the slot now. False: what was asked for is no cluster."""
        if self.url.topology != "cluster":
            return False
        self.suspect(connection.epoch)
        self._primary = (host or connection.address[0], port)
        return True

    def failed(
        self, error: BaseException, connection: ServerConnection | None, limit_s: float = CALL_LIMIT_S
    ) -> Outage:
        """What an error means that is no caller's own; it is logged, once an outage."""
        outage = outage_of(error, limit_s)
        if outage.is_elsewhere and connection is not None:
            self.suspect(connection.epoch)
        self._was_away = self._was_away or outage.is_elsewhere
        now = time.monotonic()
        if now - self._told.get(outage.code, -QUIET_S) >= QUIET_S:
            is_known = isinstance(error, RedisError | OSError | TimeoutError)
            _log.warning("the queue's server %s: %s", self.url, outage.detail, exc_info=None if is_known else error)
        self._told[outage.code] = now
        return outage

    # Finding it

    async def _connect(self, epoch: int) -> ServerConnection:
        if self.url.topology == "single":
            return await self._open(self.url.hosts[0] if self.url.hosts else None, epoch)
        if self._primary is None:
            self._primary = await self._find()
        connection = await self._open(self._primary, epoch)
        if self.url.topology == "sentinel":
            return await self._follow(connection, epoch)
        return connection

    async def _follow(self, connection: ServerConnection, epoch: int) -> ServerConnection:
        """The connection, or one to its primary: a demoted server knows of it before the sentinels agree."""
        for _ in range(2):
            try:
                role = await connection.ask("ROLE")
            except BaseException:
                await connection.close()
                raise
            if role[0] == b"master":
                return connection
            await connection.close()
            demoted, self._primary = connection.address, (role[1].decode(), int(role[2]))
            connection = await self._open(self._primary, epoch)
        await connection.close()
        raise NoPrimary(f"{demoted} and whom it names are replicas: the sentinels are not through yet")

    async def _find(self) -> Address:
        """Ask one after the other. Raises NoPrimary."""
        ask = self._ask_sentinel if self.url.topology == "sentinel" else self._ask_node
        said = []
        for _ in range(len(self._known)):
            host, port = self._known[0]
            try:
                async with asyncio.timeout(ASK_LIMIT_S):
                    return await ask((host, port))
            except (RedisError, OSError, TimeoutError) as error:
                self._known.rotate(-1)  # the next look-up, too, begins with the next one
                last = error
                reason = f"no reply within {ASK_LIMIT_S:g} s" if isinstance(error, TimeoutError) else str(error)
                said.append(f"{host}:{port}: {reason}")
        raise NoPrimary("; ".join(said)) from last

    async def _ask_sentinel(self, address: Address) -> Address:
        reply = await self._ask(address, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.url.service)
        if reply is None:
            raise UnknownService(f"it knows no service {self.url.service!r}")
        return reply[0].decode(), int(reply[1])

    async def _ask_node(self, address: Address) -> Address:
        ranges = await self._ask(address, "CLUSTER", "SLOTS")
        owner = None
        for first, last, *nodes in ranges:
            for node in nodes:
                known = (node[0].decode() if node[0] else address[0], int(node[1]))
                if known not in self._known:
                    self._known.append(known)
            if first <= self._slot <= last:
                owner = (nodes[0][0].decode() if nodes[0][0] else address[0], int(nodes[0][1]))
        if owner is None:
            raise NoPrimary(f"it knows no node of slot {self._slot}")
        return owner

    async def _ask(self, address: Address, *command: Argument) -> Any:
        connection = await self._open_sentinel(address) if command[0] == "SENTINEL" else await self._open(address, 0)
        try:
            return await connection.ask(*command)
        finally:
            await connection.close()

    # Opening

    async def _open(self, address: Address | None, epoch: int) -> ServerConnection:
        """None: the unix socket. RESP3, or RESP2 where that is refused."""
        while True:
            opened = self._new(address, self._protocol, self.url.credentials, self.url.db)
            try:
                return await _opened(opened, epoch)
            except RedisError as error:
                code = outage_of(error, CONNECT_LIMIT_S).code
                if self._protocol == 2 or code not in _NO_RESP3:
                    raise
                if code == "NOAUTH" and not self.url.credentials.password:
                    raise
                _log.info("the queue's server refuses RESP3 (%s): RESP2 is spoken", error)
                self._protocol = 2

    async def _open_sentinel(self, address: Address) -> ServerConnection:
        own = self.url.sentinel_credentials
        try:
            return await _opened(self._new(address, 2, own or self.url.credentials, 0), 0)
        except AuthenticationError:
            if own is not None or not self.url.credentials.password:
                raise
            return await _opened(self._new(address, 2, Credentials(), 0), 0)  # it has no password of its own

    def _new(self, address: Address | None, protocol: int, credentials: Credentials, db: int) -> AbstractConnection:
        options: dict[str, Any] = {
            "username": credentials.user or None,
            "password": credentials.password or None,
            "db": db,
            "protocol": protocol,
            "driver_info": None,  # no CLIENT SETINFO: it would be one more right to grant
            "socket_timeout": None,  # a call as a whole has the limit
            "socket_connect_timeout": CONNECT_LIMIT_S,
        }
        if address is None:
            return UnixDomainSocketConnection(path=self.url.path, **options)
        if self._tls is None:
            return Connection(host=address[0], port=address[1], **options)
        connection = SSLConnection(host=address[0], port=address[1], **options)
        connection.ssl_context.context = self._tls  # one for all: to build it takes up to 0.1 s
        return connection


class UnknownService(NoPrimary):
    """The sentinels watch nothing of this name."""


async def _opened(connection: AbstractConnection, epoch: int) -> ServerConnection:
    try:
        async with asyncio.timeout(CONNECT_LIMIT_S):
            await connection.connect()  # type: ignore[no-untyped-call]
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    return ServerConnection(connection, epoch)


def _tls_context(settings: Settings) -> ssl.SSLContext:
    """Raises SettingsError."""
    ca, certificate = settings.redis_ca_file, settings.redis_cert_file
    try:
        context = ssl.create_default_context(cafile=ca or None)
    except OSError as error:
        raise SettingsError(f"VISCPM_REDIS_CA_FILE={ca}: holds no certificates in PEM ({error})") from None
    try:
        if certificate:  # an empty password: or OpenSSL would ask for one on the terminal
            context.load_cert_chain(certificate, settings.redis_key_file or None, password="")
    except OSError as error:
        raise SettingsError(
            f"VISCPM_REDIS_CERT_FILE={certificate}: holds no certificate in PEM, or its key is not there without a "
            f"password ({error})"
        ) from None
    return context
