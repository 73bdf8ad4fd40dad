"""Run the API's app on a socket: binding with clear errors, and a drain that ends with exit code 0."""

import logging
import signal
import socket
import time
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn
from fastapi import FastAPI

from service.core.process_memory import settle
from service.core.settings import Settings
from service.process.request_heads import BoundedHeads

if TYPE_CHECKING:  # the supervisor binds the socket and needs no app
    from service.http.dependencies import ApiState

logger = logging.getLogger(__name__)

_BACKLOG = 2048
_KEEP_ALIVE_GRACE_S = (
    1.0  # the client counts from when it has read the answer, and may be late in using its last moment
)


class BindError(Exception):
    """The address cannot be listened on; the message is one line."""


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises BindError."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise BindError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise BindError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; choose another --host or --port"
        ) from None
    return listener


def address_of(listener: socket.socket) -> tuple[str, int]:
    """Where to reach a listening socket from this machine."""
    host, port = listener.getsockname()[:2]
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port


def url_of(listener: socket.socket) -> str:
    host, port = address_of(listener)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def bound_to(listener: socket.socket) -> str:
    """What a listening socket is bound to, in words, and beside it where to reach it if that is another address."""
    host, port = listener.getsockname()[:2]
    bound, url = f"[{host}]:{port}" if ":" in host else f"{host}:{port}", url_of(listener)
    return url if url.endswith(f"//{bound}") else f"{bound}, from this machine {url}"


def config_of(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """How uvicorn runs the app."""
    return uvicorn.Config(
        app,
        http=BoundedHeads,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # service/http/addresses.py knows whom to believe
        lifespan="on",
        ws="none",
        timeout_keep_alive=settings.keep_alive_s + _KEEP_ALIVE_GRACE_S,  # type: ignore[arg-type]  # call_later takes any number
        timeout_graceful_shutdown=1,
    )


def run_api(app: FastAPI, settings: Settings, listener: socket.socket) -> int:
    """Serve until SIGTERM or SIGINT; the first one drains for `drain_s`, a second one ends at once. The exit code."""
    config = config_of(app, settings)
    server = _Server(config, app, settings.drain_s, settings.drain_notice_s)
    settle()
    try:
        server.run(sockets=[listener])
    except SystemExit:  # uvicorn's own, with a code of its own, where the app does not start
        return 1
    return 0 if server.started and not server.is_broken else 1


class _Server(uvicorn.Server):
    """uvicorn, but while it drains it still listens: health checks hear 503 and new jobs `draining`, not a refusal."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, drain_s: float, notice_s: float) -> None:
        super().__init__(config)
        self._app = app
        self._drain_s = drain_s
        self._notice_s = notice_s  # of the drain, in which new jobs are taken yet
        self._drains_until_s: float | None = None
        self.is_broken = False  # a background task is gone for good: another process has to take over

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # uvicorn's own version raises the signal again after the drain: the process would not exit with 0
        name = signal.Signals(sig).name
        if self._drains_until_s is not None:
            logger.info("%s again: leaving at once", name)
            self.force_exit = self.should_exit = True
            return
        logger.info("%s: draining", name)
        self._drains_until_s = time.monotonic() + self._drain_s
        state: ApiState | None = getattr(self._app.state, "api", None)  # none before the lifespan began
        if state is not None:
            state.begin_drain()

    async def on_tick(self, counter: int) -> bool:
        state: ApiState | None = getattr(self._app.state, "api", None)
        if state is not None and state.tasks.failed is not None:
            self.is_broken = self.should_exit = True  # those who wait are told to ask again, and their jobs go on
        if self._drains_until_s is not None:
            now_s = time.monotonic()
            is_idle = not self.server_state.tasks and now_s >= self._drains_until_s - self._drain_s + self._notice_s
            self.should_exit = self.should_exit or is_idle or now_s > self._drains_until_s
        return await super().on_tick(counter)
