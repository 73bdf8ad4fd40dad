"""`viscpm serve`: the embedded server, the workers and the API as one process tree on one machine.

Starts them, starts again what dies, and stops them in the order that loses nothing: the API (requests in flight get
their answers), then the workers, then the server. Nothing here imports torch.
"""

import asyncio
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

import httpx

from models.jobs import Kind
from service.core.backoff import Backoff
from service.core.cpu_quota import threads_for
from service.core.errors import BusUnavailable
from service.core.settings import Settings
from service.process.api_server import BindError, bind, url_of
from service.process.embedded_redis import EmbeddedServer, EmbeddedServerError
from service.process.parent_death import dies_with_parent
from service.process.worker_devices import share_devices
from service.redis.connection import RedisConnection, open_redis
from service.redis.keys import Keys

logger = logging.getLogger(__name__)

_POLL_S = 0.05
_MAX_BACKOFF_S = 30.0
_STEADY_S = 60.0  # what lived this long is started again at once
_STOP_MARGIN_S = 5.0  # beyond drain_s, before a process that was asked to stop is killed


class StartFailed(Exception):
    """The tree cannot run; the message is one line."""


class _Child:
    """One role of the tree: a process, and the next one when it ends."""

    def __init__(self, name: str, command: Callable[[], list[str]], environment: dict[str, str], fd: int = -1) -> None:
        self.name = name
        self._command = command
        self._environment = environment
        self._fds = (fd,) if fd >= 0 else ()
        self._process: subprocess.Popen[bytes] | None = None
        self._started_s = 0.0
        self._backoff = _restart_backoff()

    def spawn(self) -> None:
        """Start it. Call from the main thread: the child dies with the thread that started it (parent_death.py)."""
        self._process = subprocess.Popen(
            dies_with_parent(self._command()),
            stdin=subprocess.DEVNULL,
            env=self._environment,
            pass_fds=self._fds,
            start_new_session=True,  # Ctrl-C in a terminal reaches the supervisor alone
        )
        self._started_s = time.monotonic()

    async def ended(self) -> str:
        """Wait for the process; how it ended, in words."""
        assert self._process is not None
        return await _ended(self._process)

    def next_backoff_s(self) -> float:
        """0, 1, 2, 4 … s; from the beginning again after a steady life."""
        if time.monotonic() - self._started_s > _STEADY_S:
            self._backoff.reset()
        return self._backoff.next_s()

    def send(self, number: signal.Signals) -> None:
        if self.is_running:
            assert self._process is not None
            self._process.send_signal(number)

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None


class Supervisor:
    """The tree of one machine; `run` gives the exit code of `viscpm serve`.

    Args:
        overrides: settings that came as flags; the children get them through their environment.
    """

    def __init__(self, settings: Settings, overrides: dict[str, object]) -> None:
        self._settings = settings
        self._environment = {**os.environ, **_variables(overrides)}
        self._started_s = time.monotonic()
        self._server: EmbeddedServer | None = None
        self._redis_url = settings.redis_url
        self._shared_metrics: tempfile.TemporaryDirectory[str] | None = None  # of several API processes
        self._apis: list[_Child] = []
        self._workers: list[_Child] = []
        self._chat_devices: list[tuple[str, ...]] = []  # of each chat worker, where they are shared out
        self._is_ready = False  # until then a child that ends is a start that failed
        self._is_stopping = False
        self._hurry = asyncio.Event()

    async def run(self) -> int:
        """Serve until SIGINT, SIGTERM or SIGHUP; 0 after a clean stop, 1 when the tree could not start."""
        tree = asyncio.ensure_future(self._run_tree())
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal, number, tree)
        try:
            await tree
        except asyncio.CancelledError:
            return 0
        except (StartFailed, BindError, EmbeddedServerError) as error:
            logger.error("%s", error)
            return 1
        finally:
            self._is_stopping = True
            await self._stop_tree()
        return 0

    def _on_signal(self, number: signal.Signals, tree: asyncio.Future[None]) -> None:
        if self._is_stopping:
            logger.info("%s again: stopping at once", number.name)
            self._hurry.set()
            return
        logger.info("%s: stopping; a second one stops at once", number.name)
        self._is_stopping = True
        tree.cancel()

    async def _run_tree(self) -> None:
        workers = sum(_worker_count(self._settings, kind) for kind in self._settings.kinds)
        if self._settings.worker_metrics_port and workers > 1:
            raise StartFailed(
                f"VISCPM_WORKER_METRICS_PORT={self._settings.worker_metrics_port} is one port for {workers} workers: "
                "unset it, and each worker takes a free one"
            )
        try:
            self._chat_devices = share_devices(self._settings.chat_devices, self._settings.chat_workers)
        except ValueError as error:
            raise StartFailed(f"VISCPM_CHAT_DEVICES={error}") from None
        if not self._settings.threads and "OMP_NUM_THREADS" not in self._environment:
            # Left alone, each worker would take every core, and they would wait for one another
            models = sum(_worker_count(self._settings, kind) for kind in self._settings.models)
            self._environment["VISCPM_THREADS"] = str(threads_for(models))
        with bind(self._settings.host, self._settings.port) as listener:
            try:
                async with asyncio.TaskGroup() as tasks:
                    if not self._redis_url:
                        server = await self._start_server()
                        tasks.create_task(self._keep_server(server))
                    self._environment["VISCPM_REDIS_URL"] = self._redis_url
                    if self._settings.api_processes > 1:
                        self._shared_metrics = _metrics_folder()
                    for number in range(self._settings.api_processes):
                        self._apis.append(self._api(number, listener))
                        tasks.create_task(self._keep(self._apis[-1]))
                    if self._settings.safety == "off":
                        logger.warning("THE SAFETY GATE IS OPEN: nothing is screened, in or out (VISCPM_SAFETY=off)")
                    for kind in self._settings.kinds:
                        for number in range(_worker_count(self._settings, kind)):
                            self._workers.append(self._worker(kind, number))
                            tasks.create_task(self._keep(self._workers[-1], kind))
                    tasks.create_task(self._announce(url_of(listener)))
            except ExceptionGroup as group:  # the others were cancelled: the first one is the reason
                raise group.exceptions[0] from None

    # Embedded server

    async def _start_server(self) -> EmbeddedServer:
        self._server = EmbeddedServer(self._settings.data_dir, self._settings.embedded_max_memory_bytes)
        self._server.spawn()
        await asyncio.to_thread(self._server.wait_ready)
        self._redis_url = self._server.url
        logger.info("embedded Valkey keeps its data in %s", self._server.folder)
        return self._server

    async def _keep_server(self, server: EmbeddedServer) -> None:
        backoff = _restart_backoff()
        while True:
            assert server.process is not None
            how = await _ended(server.process)
            backoff_s = backoff.next_s()
            logger.warning("the embedded server %s; starting it again in %g s", how, backoff_s)
            await asyncio.sleep(backoff_s)
            server.spawn()
            try:
                await asyncio.to_thread(server.wait_ready)
                backoff.reset()
            except EmbeddedServerError as error:
                logger.error("%s", error)

    # Workers and API

    def _api(self, number: int, listener: socket.socket) -> _Child:
        command = [sys.executable, "-m", "service.process.cli", "api", "--fd", str(listener.fileno())]
        if self._shared_metrics is not None:
            command += ["--shared-metrics", self._shared_metrics.name, "--number", str(number)]
        return _Child(f"API process {number}", lambda: command, self._environment, listener.fileno())

    def _worker(self, kind: Kind, number: int) -> _Child:
        worker_id = ""

        def command() -> list[str]:
            nonlocal worker_id
            predecessor, worker_id = worker_id, f"{socket.gethostname()}-{kind}-{number}-{secrets.token_hex(3)}"
            ids = ["--worker-id", worker_id, *(["--predecessor", predecessor] if predecessor else [])]
            return [sys.executable, "-m", "service.process.cli", "worker", kind, *ids]

        environment = self._environment
        if kind == "chat" and self._chat_devices:
            environment = {**environment, "VISCPM_CHAT_DEVICES": ",".join(self._chat_devices[number])}
        return _Child(f"{kind} worker {number}", command, environment)

    async def _keep(self, child: _Child, kind: Kind | None = None) -> None:
        while True:
            child.spawn()
            how = await child.ended()
            if not self._is_ready:
                raise StartFailed(f"not started: the {child.name} {how} before the service was ready")
            backoff_s = child.next_backoff_s()
            logger.warning("the %s %s; starting it again in %g s", child.name, how, backoff_s)
            if kind is not None:
                await self._count_restart(kind)
            await asyncio.sleep(backoff_s)

    async def _count_restart(self, kind: Kind) -> None:
        connection = RedisConnection(open_redis(self._settings.model_copy(update={"redis_url": self._redis_url})))
        try:
            await connection.send("HINCRBY", Keys(self._settings.redis_prefix).restarts, kind, 1)
        except BusUnavailable as error:
            logger.warning("a restart was not counted: %s", error.message)
        finally:
            await connection.close()

    async def _announce(self, url: str) -> None:
        """Say when the API is ready; from then on a child that ends is started again."""
        async with httpx.AsyncClient(base_url=url, timeout=2.0, trust_env=False) as client:
            while not self._is_ready:
                await asyncio.sleep(_POLL_S)
                try:
                    self._is_ready = (await client.get("/health/ready")).status_code == 200
                except httpx.HTTPError:
                    continue
        waited_s = time.monotonic() - self._started_s
        logger.info("ready on %s: %s, after %.1f s", url, ", ".join(self._settings.models), waited_s)

    # The end

    async def _stop_tree(self) -> None:
        patience_s = self._settings.drain_s + _STOP_MARGIN_S
        await self._stop_children(self._apis, patience_s)
        await self._stop_children(self._workers, patience_s)
        if self._server is not None:
            await asyncio.to_thread(self._server.stop)
        if self._shared_metrics is not None:
            self._shared_metrics.cleanup()
        logger.info("stopped")

    async def _stop_children(self, children: Sequence[_Child], patience_s: float) -> None:
        for child in children:
            child.send(signal.SIGTERM)
        deadline_s = time.monotonic() + patience_s
        while any(child.is_running for child in children):
            if self._hurry.is_set() or time.monotonic() > deadline_s:
                for child in children:
                    child.send(signal.SIGKILL)
            await asyncio.sleep(_POLL_S)


def _restart_backoff() -> Backoff:
    """At once, then after 1, 2, 4 … s: on one machine no others come back in step."""
    return Backoff(1.0, _MAX_BACKOFF_S, jitter=0, at_once=True)


async def _ended(process: subprocess.Popen[bytes]) -> str:
    while (code := process.poll()) is None:  # noqa: ASYNC110 - portable, and nobody waits on the last 50 ms
        await asyncio.sleep(_POLL_S)
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"


def _metrics_folder() -> "tempfile.TemporaryDirectory[str]":
    try:
        return tempfile.TemporaryDirectory(prefix="viscpm-metrics-")
    except OSError as error:
        raise StartFailed(f"several API processes count in a temporary folder, and there is none: {error}") from None


def _worker_count(settings: Settings, kind: Kind) -> int:
    by_kind = {"chat": settings.chat_workers, "paint": settings.paint_workers, "safety": settings.safety_workers}
    return by_kind[kind]


def _variables(overrides: dict[str, object]) -> dict[str, str]:
    """Settings as the environment variables that set them."""
    return {
        f"VISCPM_{name.upper()}": ",".join(value) if isinstance(value, tuple) else str(value)
        for name, value in overrides.items()
    }
