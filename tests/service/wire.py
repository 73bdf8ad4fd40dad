"""Bytes to a server, and what it says: for what HTTP clients of Python do not send."""

import asyncio
import json
from typing import Any


async def said(url: str, *parts: bytes, pause_s: float = 0.0, within_s: float = 10.0) -> bytes:
    """All that the server sends until it closes."""
    host, port = url.removeprefix("http://").rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause_s)
        return await asyncio.wait_for(reader.read(), within_s)
    finally:
        writer.close()


def post(path: str, body: bytes, *headers: bytes, media: bytes = b"application/json", close: bool = True) -> bytes:
    """A request with its length."""
    head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: %b\r\nContent-Length: %d\r\n" % (
        path.encode(),
        media,
        len(body),
    )
    lines = [*headers, *([b"Connection: close"] if close else [])]
    return head + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


def body_of(answer: bytes) -> Any:
    """The JSON of one whole answer."""
    return json.loads(answer.partition(b"\r\n\r\n")[2])


def form(*parts: tuple[str, str, bytes]) -> bytes:
    """Of the boundary X; parts of (Content-Disposition, Content-Type or "", content)."""
    body = b""
    for disposition, media, content in parts:
        type_line = f"Content-Type: {media}\r\n" if media else ""
        body += f"--X\r\nContent-Disposition: {disposition}\r\n{type_line}\r\n".encode() + content + b"\r\n"
    return body + b"--X--\r\n"


def chunked(path: str, body: bytes, *headers: bytes, media: bytes = b"application/json") -> bytes:
    """A request in chunks of seven bytes."""
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(body[i : i + 7]), body[i : i + 7]) for i in range(0, len(body), 7))
    lines = [b"Content-Type: " + media, b"Transfer-Encoding: chunked", *headers]
    head = b"POST %b HTTP/1.1\r\nHost: x\r\n" % path.encode() + b"".join(line + b"\r\n" for line in lines)
    return head + b"\r\n" + chunks + b"0\r\n\r\n"
