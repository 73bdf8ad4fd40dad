"""A service to attack: the real API process on a real server of the Redis protocol, workers of scripted engines."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from service.process.embedded_redis import EmbeddedServer
from service.process.parent_death import dies_with_parent
from tests.attacks import canary, origin
from tests.attacks.canary import Canary
from tests.attacks.case import Surroundings
from tests.attacks.origin import Origin

ROOT = Path(__file__).parents[2]
ORIGIN_HOST = "127.66.0.1"  # of this machine, and the one address that the target may fetch from
_START_LIMIT_S = 300.0  # a second of work; on a machine that is busy with other things, minutes

LIMITS = {
    "VISCPM_SAFETY": "off",  # nothing of this is screened: it never gets that far
    "VISCPM_FETCH_IMAGES": "true",
    "VISCPM_FETCH_ALLOWED_NETWORKS": f"{ORIGIN_HOST}/32",
    "VISCPM_FETCH_TIMEOUT_S": "3",
    "VISCPM_BODY_TIMEOUT_S": "8",
}


class Target:
    """A running service and what surrounds it."""

    def __init__(self, url: str, api: psutil.Process, hostile: Origin, listener: Canary) -> None:
        self.url = url
        self.hostile = hostile
        self.canary = listener
        self._api = api

    @property
    def around(self) -> Surroundings:
        return Surroundings(self.hostile.url, self.canary.port)

    def resident_bytes(self) -> int:
        """Of the API process itself, where `dies_with_parent` runs it as a child."""
        return max(one.memory_info().rss for one in [self._api, *self._api.children(recursive=True)])


@contextmanager
def surroundings() -> Iterator[tuple[Origin, Canary]]:
    with canary.listening() as listener, origin.serving(ORIGIN_HOST) as hostile:
        yield hostile, listener


@contextmanager
def attacked(folder: Path) -> Iterator[Target]:
    """Everything started, and stopped with the block."""
    with ExitStack() as stack:
        hostile, listener = stack.enter_context(surroundings())
        redis = stack.enter_context(EmbeddedServer(folder))
        port = _free_port()
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("VISCPM_")},
            **LIMITS,
            "VISCPM_FETCH_PORTS": f"80,443,{listener.port},{hostile.server_address[1]}",
            "VISCPM_REDIS_URL": redis.url,
            "VISCPM_CHAT_ENGINE": "tests.service.engines:create_engine",
            "VISCPM_PAINT_ENGINE": "tests.service.engines:create_engine",
            "VISCPM_LOG_LEVEL": "warning",
            "PYTHONPATH": str(ROOT),
        }
        log = stack.enter_context((folder / "target.log").open("w"))
        for kind in ("chat", "paint"):
            stack.enter_context(_process(["worker", kind, "--worker-id", f"{kind}-attacked"], environment, log))
        api = stack.enter_context(_process(["api", "--port", str(port)], environment, log))
        url = f"http://127.0.0.1:{port}"
        _wait_until_ready(url)
        yield Target(url, psutil.Process(api.pid), hostile, listener)


@contextmanager
def _process(arguments: list[str], environment: dict[str, str], log: object) -> Iterator["subprocess.Popen[bytes]"]:
    command = dies_with_parent([sys.executable, "-m", "service.process.cli", *arguments])
    running = subprocess.Popen(command, env=environment, cwd=ROOT, stderr=log)  # type: ignore[call-overload]
    try:
        yield running
    finally:
        running.terminate()
        running.wait(15)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(url: str) -> None:
    ends_s = time.monotonic() + _START_LIMIT_S
    while True:
        try:
            with urllib.request.urlopen(f"{url}/health/ready", timeout=5):
                return
        except OSError:
            if time.monotonic() > ends_s:
                raise
            time.sleep(0.05)
