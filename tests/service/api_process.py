"""`viscpm api` as its users run it: a process of its own on a real server, with workers of scripted engines."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import psutil

from service.process.embedded_redis import EmbeddedServer
from service.process.parent_death import dies_with_parent

ROOT = Path(__file__).parents[2]
_START_LIMIT_S = 300.0  # a second of work; on a machine that is busy with other things, minutes


class ApiProcess:
    """A running `viscpm api` that is ready. `log` is what it and its workers have said."""

    def __init__(self, url: str, redis_url: str, process: psutil.Process, log_path: Path) -> None:
        self.url = url
        self.redis_url = redis_url
        self._process = process
        self._log_path = log_path

    @property
    def log(self) -> str:
        return self._log_path.read_text("utf-8", errors="replace")

    def client(self, timeout_s: float = 30.0) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=timeout_s, trust_env=False)

    def resident_bytes(self) -> int:
        """Of the API process itself, where `dies_with_parent` runs it as a child."""
        return max(one.memory_info().rss for one in [self._process, *self._process.children(recursive=True)])


@contextmanager
def api_process(folder: Path, **variables: str) -> Iterator[ApiProcess]:
    """The API, a worker for chat, one for paint, and one for the screens where they are on; stopped with the block.

    Args:
        folder: of the embedded server and the log.
        variables: VISCPM_… of all of them, beside the tests' engines and an open safety gate.
    """
    with ExitStack() as stack:
        redis = stack.enter_context(EmbeddedServer(folder))
        port = _free_port()
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("VISCPM_")},
            "VISCPM_SAFETY": "off",
            "VISCPM_REDIS_URL": redis.url,
            "VISCPM_CHAT_ENGINE": "tests.service.engines:create_engine",
            "VISCPM_PAINT_ENGINE": "tests.service.painter:create_engine",
            "VISCPM_SAFETY_ENGINE": "tests.service.image_input.colours:create_engine",
            "VISCPM_LOG_LEVEL": "warning",
            "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", "")))),
            **variables,
        }
        log_path = folder / "api.log"
        log = stack.enter_context(log_path.open("w"))
        kinds = ["chat", "paint", *(["safety"] if environment["VISCPM_SAFETY"] == "on" else [])]
        for kind in kinds:
            stack.enter_context(_process(["worker", kind, "--worker-id", f"{kind}-scripted"], environment, log))
        api = stack.enter_context(_process(["api", "--port", str(port)], environment, log))
        url = f"http://127.0.0.1:{port}"
        _wait_until_ready(url)
        yield ApiProcess(url, redis.url, psutil.Process(api.pid), log_path)


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
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        try:
            with opener.open(f"{url}/health/ready", timeout=5):
                return
        except OSError:
            if time.monotonic() > ends_s:
                raise
            time.sleep(0.05)
