"""A server in a guard's place, on a real socket: chat completions and moderations that look for words.

`zorkmid` in what it is asked about is unsafe. Its `mood` makes it something else: `slow` answers after `delay_s`,
`silent` never, `broken` closes the connection in the middle of an answer, `failing` answers with status 500, `refusing`
with 401, `wrong` with JSON of another shape, `mumbling` in another grammar, `no_json` with text, `endless` with too
much.
"""

import asyncio
import json
from contextlib import suppress
from typing import Any

_STATUS = {"failing": 500, "refusing": 401}


class StandIn:
    """An async context manager. `asked` is every request's path, headers and body."""

    def __init__(self, unsafe_word: str = "zorkmid") -> None:
        self.mood = ""
        self.delay_s = 0.0
        self.asked: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.url = ""
        self._unsafe_word = unsafe_word
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "StandIn":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """From now on nobody listens there."""
        if self._server is not None:
            self._server.close()
            for task in self._serving:
                task.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)
            await self._server.wait_closed()
            await asyncio.sleep(0)
            self._server = None

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answers(reader, writer)
        finally:
            writer.transport.abort()
            await asyncio.sleep(0)  # its end is told in the loop's next round

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                path = head[0].split()[1]
                headers = {
                    name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)
                }
                body = json.loads(await reader.readexactly(int(headers["content-length"])))
                self.asked.append((path, headers, body))
                await self._answer(writer, path, body)

    async def _answer(self, writer: asyncio.StreamWriter, path: str, body: dict[str, Any]) -> None:
        if self.mood == "silent":
            await asyncio.sleep(3600)
        if self.mood == "slow":
            await asyncio.sleep(self.delay_s)
        said = self._said(path, body)
        length = len(said) + (1000 if self.mood == "broken" else 0)
        head = f"HTTP/1.1 {_STATUS.get(self.mood, 200)} Told\r\ncontent-type: application/json\r\n"
        writer.write(f"{head}content-length: {length}\r\n\r\n".encode() + said)
        await writer.drain()
        if self.mood == "broken":
            raise ConnectionResetError

    def _said(self, path: str, body: dict[str, Any]) -> bytes:
        if self.mood == "no_json":
            return b"<html>it works</html>"
        if self.mood == "endless":
            return b" " * (2 << 20) + b"{}"
        if self.mood == "wrong":
            return b'{"choices": [{"text": "Safety: Safe"}], "results": [{"ok": true}]}'
        if path.endswith("/moderations"):
            is_unsafe = self._unsafe_word in body["input"]
            categories = {"violence": is_unsafe, "hate": False, "sexual": None}
            scores = {"violence": 0.4 + is_unsafe / 2, "hate": 0.9}
            result = {"flagged": is_unsafe, "categories": categories, "category_scores": scores}
            return json.dumps({"id": "m", "model": "m", "results": [result]}).encode()
        is_unsafe = self._unsafe_word in body["messages"][-1]["content"]
        answer = "Safety: Unsafe\nCategories: Violent" if is_unsafe else "Safety: Safe\nCategories: None"
        if self.mood == "mumbling":
            answer = "I would rather not say."
        return json.dumps({"choices": [{"message": {"role": "assistant", "content": answer}}]}).encode()
