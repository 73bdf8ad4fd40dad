"""Clients of several kinds that ask without a pause, and what went wrong with them."""

import asyncio
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

PICTURE = Path(__file__).parents[2] / "docs/images/red_apple_on_blue.png"


@dataclass
class Load:
    """Runs in a thread of its own between `start` and `stop`."""

    url: str
    clients: int = 8
    answered: int = 0
    lost: list[str] = field(default_factory=list)
    longest_s: float = 0.0
    _ends: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()

    def stop(self) -> None:
        self._ends.set()
        assert self._thread is not None
        self._thread.join()

    async def _run(self) -> None:
        await asyncio.gather(*(self._ask_on(number) for number in range(self.clients)))

    async def _ask_on(self, number: int) -> None:
        """Half of the clients keep their connection, half take a new one for each request."""
        client = httpx.AsyncClient(base_url=self.url, timeout=60, trust_env=False)
        while not self._ends.is_set():
            began_s = time.monotonic()
            try:
                wrong = await self._ask(client, number % 4)
            except httpx.HTTPError as error:
                wrong = repr(error)
            self.longest_s = max(self.longest_s, time.monotonic() - began_s)
            if wrong:
                self.lost.append(wrong)
            else:
                self.answered += 1
            if number >= self.clients // 2:
                await client.aclose()
                client = httpx.AsyncClient(base_url=self.url, timeout=60, trust_env=False)
        await client.aclose()

    async def _ask(self, client: httpx.AsyncClient, kind: int) -> str:
        """What was wrong with the answer; empty: nothing."""
        if kind == 0:
            form = {"question": "What is in the picture?"}
            response = await client.post("/chat", files={"image": PICTURE.read_bytes()}, data=form)
        elif kind == 1:
            async with client.stream("POST", "/chat", json={"question": "hello", "stream": True}) as response:
                await response.aread()
            if response.status_code == 200 and ("finish_reason" not in response.text or '"error"' in response.text):
                return f"a stream ended with {response.text[-200:]}"
        else:
            response = await client.post("/chat", json={"question": "hello", "max_new_tokens": 8, "num_beams": 1})
        return "" if response.status_code == 200 else f"{response.status_code} {response.text[:200]}"
