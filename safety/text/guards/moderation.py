"""A server of `/v1/moderations`, OpenAI's or any of that shape, as a text screen.

Covered: what it flags, which scores 1; what it does not, which scores as much as it says and never more than 0.5:
where its threshold lies is its own knowledge. Categories by OpenAI's names, and by Mistral's.
Not covered: pictures; categories that it does not judge, which it leaves out or gives as null.
"""

import asyncio
import hashlib
from typing import Any

import httpx

from safety.categories import ADVICE, CATEGORIES, JAILBREAK, PRIVACY, UNSAFE
from safety.text.guards.adapter import ALL_LANGUAGES, Role, Scores, UnreadableAnswer
from safety.text.guards.calls import ServerCalls
from safety.text.guards.windows import windows, worst
from safety.text.language import Language

_NOT_FLAGGED = 0.5
_OTHER_NAMES = {
    "dangerous_and_criminal_content": "illicit",
    "financial": ADVICE,
    "hate_and_discrimination": "hate",
    "health": ADVICE,
    "jailbreaking": JAILBREAK,
    "law": ADVICE,
    "pii": PRIVACY,
    "selfharm": "self-harm",
    "violence_and_threats": "violence",
}


class ModerationServer:
    """Asks one server. `scores` raises ScreenOffline where it is away for now, UnreadableAnswer for nonsense."""

    name = "moderation"
    languages: frozenset[Language] = ALL_LANGUAGES

    def __init__(
        self,
        url: str,
        model: str = "",
        key: str = "",
        timeout_s: float = 10.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._model = model
        self._calls = ServerCalls(url, "/v1/moderations", key, timeout_s, transport)
        known = f"{self._calls.url} {model} {sorted(_OTHER_NAMES.items())} {_NOT_FLAGGED}"
        self.fingerprint = hashlib.sha256(known.encode()).hexdigest()[:12]

    async def scores(self, text: str, role: Role) -> Scores:
        return worst(await asyncio.gather(*(self._judged(piece) for piece in windows(text))))

    async def close(self) -> None:
        await self._calls.close()

    async def _judged(self, piece: str) -> Scores:
        said = await self._calls.post({"input": piece, **({"model": self._model} if self._model else {})})
        try:
            [result] = said["results"]
            return _scores(result)
        except (AttributeError, KeyError, TypeError, ValueError):
            raise UnreadableAnswer(f"{self._calls.url} gave no single result of a moderation") from None


def _scores(result: dict[str, Any]) -> Scores:
    """Of our categories. One that is flagged under a name that is not known here is unsafe. Raises what was wrong."""
    scores: Scores = {}
    is_flagged = result.get("flagged", False)
    flags, told = result["categories"], result["category_scores"]
    for name, flag in flags.items():
        if flag is None:
            continue
        if not isinstance(flag, bool):
            raise TypeError(name)
        category = name if name in CATEGORIES else _OTHER_NAMES.get(name, UNSAFE)
        score = 1.0 if flag else min(max(float(told.get(name) or 0.0), 0.0), _NOT_FLAGGED)
        if category == UNSAFE and not flag:
            score = 0.0
        scores[category] = max(score, scores.get(category, 0.0))
    if not scores or not isinstance(is_flagged, bool):
        raise ValueError("categories")
    if is_flagged and max(scores.values()) < 1:
        scores[UNSAFE] = 1.0
    return scores
