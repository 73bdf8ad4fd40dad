"""Clients of a tree that never stop asking: chats, streamed chats and paints whose right answers are known."""

import asyncio
import base64
import io
import itertools
import json
import threading
import time
from collections import Counter
from types import TracebackType
from typing import Any, NamedTuple, Self

import httpx
from PIL import Image

from tests.service.painter import colour_of

# Scripted engines (tests/service/engines.py): no model, so that what is measured is everything else
ENGINES = {
    "VISCPM_CHAT_ENGINE": "tests.service.engines:create_engine",
    "VISCPM_PAINT_ENGINE": "tests.service.painter:create_engine",
    "VISCPM_TEST_STEP_S": "0.02",
}
KINDS = ("chat", "stream", "paint")
WORDS = 6
ANSWER = "".join(f"w{i} " for i in range(WORDS))
_PAUSE_S = 0.1  # of a client that was refused: less than Retry-After asks for


class Ended(NamedTuple):
    """One request. `result` is "done", or the code of the error that it was answered with."""

    kind: str  # chat, stream or paint
    result: str
    began_s: float
    ended_s: float


class Load:
    """`with Load(url) as load:` asks until the block ends, and then waits for the last answers."""

    def __init__(self, url: str, chats: int = 3, streams: int = 2, paints: int = 2, timeout_s: float = 60.0) -> None:
        self.ended: list[Ended] = []
        self.wrong: list[str] = []
        self._url = url
        self._timeout_s = timeout_s
        self._clients = {"chat": chats, "stream": streams, "paint": paints}
        self._stopping = threading.Event()
        self._numbers = itertools.count()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stopping.set()
        self._thread.join()

    @property
    def results(self) -> Counter[str]:
        return Counter(one.result for one in self.ended)

    def count(self, kind: str) -> int:
        """Requests of a kind that were answered rightly."""
        return sum(one.kind == kind and one.result == "done" for one in self.ended)

    def first_answers(self, limit_s: float = 30.0) -> dict[str, float]:
        """How long it takes until a new request of each kind is answered; one begins every 0.1 s."""
        return asyncio.run(self._first_answers(limit_s))

    async def _first_answers(self, limit_s: float) -> dict[str, float]:
        async with httpx.AsyncClient(base_url=self._url, timeout=limit_s, trust_env=False) as client:
            async with asyncio.timeout(limit_s):
                first = await asyncio.gather(*(self._first_answer(client, kind) for kind in KINDS))
        return dict(zip(KINDS, first, strict=True))

    async def _first_answer(self, client: httpx.AsyncClient, kind: str) -> float:
        began_s = time.monotonic()
        asked: set[asyncio.Task[str]] = set()
        while not any(one.done() and one.result() == "done" for one in asked):
            asked = {one for one in asked if not one.done()} | {asyncio.create_task(self._ask(client, kind))}
            await asyncio.wait(asked, timeout=0.1, return_when=asyncio.FIRST_COMPLETED)
        answered_s = time.monotonic()
        await asyncio.gather(*asked)
        return answered_s - began_s

    async def _run(self) -> None:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(
            base_url=self._url, timeout=self._timeout_s, trust_env=False, limits=limits
        ) as client:
            clients = [kind for kind, count in self._clients.items() for _ in range(count)]
            await asyncio.gather(*(self._ask_on(client, kind) for kind in clients))

    async def _ask_on(self, client: httpx.AsyncClient, kind: str) -> None:
        while not self._stopping.is_set():
            if await self._ask(client, kind) != "done":
                await asyncio.sleep(_PAUSE_S)

    async def _ask(self, client: httpx.AsyncClient, kind: str) -> str:
        ask = {"chat": self._chat, "stream": self._stream, "paint": self._paint}[kind]
        began_s = time.monotonic()
        try:
            result = await ask(client)
        except httpx.HTTPError as error:
            result = type(error).__name__
        self.ended.append(Ended(kind, result, began_s, time.monotonic()))
        return result

    async def _chat(self, client: httpx.AsyncClient) -> str:
        text = f"words of {next(self._numbers)}"
        response = await client.post("/chat", json={"question": f"echo {text}"})
        if response.status_code != 200:
            return _refusal(response)
        self._compare(response.json()["answer"], text)
        return "done"

    async def _stream(self, client: httpx.AsyncClient) -> str:
        body = {"question": f"stream {WORDS}", "stream": True}
        streamed = ""
        async with client.stream("POST", "/chat", json=body) as response:
            if response.status_code != 200:
                await response.aread()
                return _refusal(response)
            answer: dict[str, Any] = {}
            async for line in response.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                answer = json.loads(line.removeprefix("data: "))
                if "delta" in answer:
                    streamed += answer["delta"]
                if not ANSWER.startswith(streamed):
                    self.wrong.append(f"streamed {streamed!r}")
        if "error" in answer:
            return str(answer["error"]["code"])
        self._compare(answer.get("answer"), ANSWER)
        self._compare(streamed, ANSWER)
        return "done"

    async def _paint(self, client: httpx.AsyncClient) -> str:
        seed = next(self._numbers)
        response = await client.post("/paint", json={"prompt": "paint 3", "seed": seed})
        if response.status_code != 200:
            return _refusal(response)
        [picture] = response.json()["data"]
        self._compare(Image.open(io.BytesIO(base64.b64decode(picture["b64_json"]))).getpixel((0, 0)), colour_of(seed))
        return "done"

    def _compare(self, got: object, right: object) -> None:
        if got != right:
            self.wrong.append(f"{got!r} instead of {right!r}")


def _refusal(response: httpx.Response) -> str:
    error = response.json()["error"]
    if response.status_code == 503:
        assert int(response.headers["retry-after"]) >= 1, response.headers
    return str(error["code"])
