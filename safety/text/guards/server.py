"""A guard model that a server runs: chat completions as vLLM and others speak them.

Covered: the adapter's talk sent as messages, which the server renders by its checkpoint's chat template; one answer
read by the adapter's grammar. A server that is away, overloaded or broken is told apart from one that talks nonsense.
Not covered: which weights the server has: name another model when they change, for kept findings hang on the name.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any

import httpx

from safety.text.guards.adapter import (
    GuardAdapter,
    Role,
    Scores,
    UnreadableAnswer,
    adapter_version,
    asked_scores,
)
from safety.text.guards.calls import ServerCalls
from safety.text.guards.windows import windows, worst


class GuardServer:
    """Asks one server. `scores` raises ScreenOffline where it is away for now, UnreadableAnswer for nonsense.

    Args:
        url: of its API, with or without `/v1` or `/v1/chat/completions`.
        model: under which it serves the guard; empty: as published.
    """

    def __init__(
        self,
        url: str,
        adapter: GuardAdapter,
        model: str = "",
        key: str = "",
        timeout_s: float = 10.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.name = adapter.name
        self.languages = adapter.languages
        self._adapter = adapter
        self._model = model or adapter.model
        self._calls = ServerCalls(url, "/v1/chat/completions", key, timeout_s, transport)
        known = f"{self._calls.url} {self._model} {adapter_version(adapter)}"
        self.fingerprint = hashlib.sha256(known.encode()).hexdigest()[:12]

    async def scores(self, text: str, role: Role) -> Scores:
        answers: Sequence[str] = await asyncio.gather(*(self._answer(piece, role) for piece in windows(text)))
        return worst(asked_scores(self._adapter, answer, role) for answer in answers)

    async def close(self) -> None:
        await self._calls.close()

    async def _answer(self, piece: str, role: Role) -> str:
        asked: dict[str, Any] = {
            "model": self._model,
            "messages": self._adapter.messages(piece, role),
            "max_tokens": self._adapter.max_new_tokens,
            "temperature": 0,
        }
        if arguments := self._adapter.template_arguments(role):
            asked["chat_template_kwargs"] = arguments
        said = await self._calls.post(asked)
        try:
            answer = said["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            answer = None
        if not isinstance(answer, str):
            raise UnreadableAnswer(f"the guard's server gave no message of text in answer to {self._calls.url}")
        return answer
