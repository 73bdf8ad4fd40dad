"""The real app on a real socket, and what tests send to it."""

import asyncio
import base64
import io
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import redis.asyncio
import uvicorn
from fastapi import FastAPI
from PIL import Image

from safety.verdict import Screens
from service.core.settings import Settings
from service.http.app import create_app
from service.process.api_server import bind, config_of, url_of
from tests.service.tree import eventually

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # the usual one reads all authorities, for each client


class Service:
    """One API process' worth of service. `client` is an HTTP client of it."""

    def __init__(self, app: FastAPI, url: str, client: httpx.AsyncClient, redis: "redis.asyncio.Redis") -> None:
        self.app = app
        self.url = url
        self.client = client
        self.redis = redis

    @property
    def state(self) -> Any:
        return self.app.state.api

    async def ready(self) -> None:
        async def is_ready() -> bool:
            return (await self.client.get("/health/ready")).status_code == 200

        await eventually(is_ready, 20.0)

    async def ask(self, question: str, **fields: Any) -> httpx.Response:
        return await self.client.post("/chat", json={"question": question, **fields})

    async def accounting(self) -> dict[str, int]:
        """By state, chat and paint together; checks that every slot is free and accepted = the sum of the endings."""
        stored = await self.redis.hgetall("{viscpm}:accounting")
        counts = dict.fromkeys(("accepted", "done", "refused", "failed", "cancelled"), 0)
        for name, count in stored.items():
            counts[name.decode().split(":")[0]] += int(count)
        assert counts["accepted"] == sum(counts.values()) - counts["accepted"], counts
        for kind in ("chat", "paint"):
            assert await self.redis.zcard(f"{{viscpm}}:slots:{kind}") == 0
            assert await self.redis.xlen(f"{{viscpm}}:jobs:{kind}") == 0
        return {state: count for state, count in counts.items() if count and state != "accepted"}

    async def metric(self, sample: str, path: str = "/metrics") -> float:
        """The value of a sample line; 0 where it is not there."""
        text = (await self.client.get(path)).text
        for line in text.splitlines():
            if line.startswith(sample + " "):
                return float(line.rsplit(" ", 1)[1])
        return 0.0


class _Server(uvicorn.Server):
    """Ends when it is told to: uvicorn's own looks ten times a second, and takes a tenth more to close."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        super().__init__(config_of(app, settings))
        self._ending = asyncio.Event()

    def end(self) -> None:
        self._ending.set()

    async def main_loop(self) -> None:
        await self.on_tick(0)  # the headers of every response
        await self._ending.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await eventually(lambda: not self.server_state.connections and not self.server_state.tasks, 5.0)
        await self.lifespan.shutdown()


@asynccontextmanager
async def serving(settings: Settings, screens: Screens | None = None) -> AsyncIterator[Service]:
    """The app under the server that `viscpm api` runs, in this event loop, on a free port."""
    app = create_app(settings, screens)
    listener = bind("127.0.0.1", 0)
    server = _Server(app, settings)
    running = asyncio.create_task(server._serve([listener]))  # serve() would take the test's signal handlers
    try:
        await eventually(lambda: server.started or running.done())
        async with (
            httpx.AsyncClient(base_url=url_of(listener), timeout=30.0, verify=NO_TLS) as client,
            redis.asyncio.Redis.from_url(settings.redis_url, protocol=3) as own_redis,
        ):
            yield Service(app, url_of(listener), client, own_redis)
    finally:
        server.end()
        await running
        listener.close()


def encoded(width_px: int = 8, height_px: int = 8, colour: tuple[int, int, int] = (200, 30, 40)) -> str:
    """A small picture as base64."""
    return base64.b64encode(picture_bytes(width_px, height_px, colour)).decode()


def picture_bytes(
    width_px: int = 8, height_px: int = 8, colour: tuple[int, int, int] = (200, 30, 40), kind: str = "PNG"
) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (width_px, height_px), colour).save(target, kind)
    return target.getvalue()


def sse_events(text: str) -> list[tuple[str, Any]]:
    """(event name, data) of a stream; data is "[DONE]" for the last."""
    events = []
    for block in text.split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        fields = dict(line.split(": ", 1) for line in lines)
        if "data" in fields:
            data = fields["data"]
            events.append((fields.get("event", ""), data if data == "[DONE]" else json.loads(data)))
    return events


def assert_error(response: httpx.Response, status: int, code: str, param: str | None = None) -> dict[str, Any]:
    """The error shape of CONVENTIONS §4, exactly."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert list(response.json()) == ["error"]
    error: dict[str, Any] = response.json()["error"]
    assert {"message", "type", "param", "code"} <= set(error), error
    assert (error["code"], error["param"]) == (code, param), error
    assert error["message"] and isinstance(error["type"], str)
    return error
