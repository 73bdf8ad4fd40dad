"""Connections that are kept, stand idle, and are used again at a given moment."""

import asyncio
import json
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from tests.service.wire import post

Fate = Literal["answered", "closed before", "lost"]


@dataclass(frozen=True)
class Reuse:
    """What became of a connection's second request.

    `closed before`: the client saw the end before it sent. `lost`: it sent, and had not one byte of an answer.
    """

    idle_s: float
    fate: Fate


async def reuse(url: str, idle_s: float, number: int, pieces: int = 1) -> Reuse:
    """Ask once, wait, ask again, in `pieces` with a pause between them. Raises AssertionError for half an answer."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(_question(f"first-{number}"))
        await _whole_answer(reader, f"first-{number}")
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        await asyncio.sleep(idle_s)
        waited_s = loop.time() - began_s
        if reader.at_eof():
            return Reuse(waited_s, "closed before")
        question = _question(f"again-{number}")
        step = -(-len(question) // pieces)
        try:
            for start in range(0, len(question), step):
                writer.write(question[start : start + step])
                await writer.drain()
                await asyncio.sleep(0.05 if pieces > 1 else 0)
            is_answered = await _whole_answer(reader, f"again-{number}")
        except (ConnectionError, BrokenPipeError):
            return Reuse(waited_s, "lost")
        return Reuse(waited_s, "answered" if is_answered else "lost")
    finally:
        writer.close()


def _question(text: str) -> bytes:
    return post("/chat", json.dumps({"question": f"echo {text}"}).encode(), close=False)


async def _whole_answer(reader: asyncio.StreamReader, text: str) -> bool:
    """Whether it came; False: not a byte of it."""
    try:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    except asyncio.IncompleteReadError as end:
        assert end.partial == b"", f"half a head: {end.partial!r}"
        return False
    assert head.startswith(b"HTTP/1.1 200 "), head
    found = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    assert found is not None
    try:
        body = await asyncio.wait_for(reader.readexactly(int(found[1])), 30)
    except (asyncio.IncompleteReadError, ConnectionError) as end:
        raise AssertionError(f"half a body: {end}") from None
    assert json.loads(body)["answer"] == text
    return True
