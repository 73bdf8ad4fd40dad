"""A real HTTP server that is called back, and the secret that calls to it are signed with."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

SECRET = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"
HANG = 0  # a status that never comes


@dataclass
class Call:
    """A request that the receiver got."""

    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def told(self) -> Any:
        return json.loads(self.body)


@dataclass
class Receiver:
    """On 127.0.0.1. Answers calls with `statuses` in turn, the last one again and again."""

    statuses: list[int]
    location: str = ""
    port: int = 0
    calls: list[Call] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?for=me"

    def settings(self) -> dict[str, object]:
        """That let it be called, and soon again."""
        return {
            "webhook_secret": SECRET,
            "webhook_retry_s": 0.1,
            "webhook_timeout_s": 1.0,
            "fetch_ports": (self.port,),
            "fetch_allowed_networks": (ip_network("127.0.0.1/32"),),
        }

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._answer(reader, writer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = {name.lower(): value for name, value in (one.split(": ", 1) for one in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        status = self.statuses[min(len(self.calls), len(self.statuses) - 1)]
        self.calls.append(Call(line, headers, body))
        if status == HANG:
            await asyncio.sleep(60)
        location = f"Location: {self.location}\r\n" if self.location else ""
        writer.write(f"HTTP/1.1 {status} X\r\n{location}Content-Length: 2\r\n\r\nok".encode())
        await writer.drain()


@asynccontextmanager
async def receiving(*statuses: int, location: str = "") -> AsyncIterator[Receiver]:
    receiver, serving = Receiver(list(statuses) or [204], location), set[asyncio.Task[None]]()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.create_task(receiver.serve(reader, writer)))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        server.close()
