"""Qwen3Guard-Gen (Alibaba, Apache-2.0; 0.6B, 4B, 8B): English, Chinese and 117 more languages, nine categories.

Covered: its answer in two lines, `Safety: Safe|Unsafe|Controversial` and `Categories: …`, after which a third one may
tell whether an answer was a refusal. Its chat template asks about the last message, and comes with the checkpoint.
Not covered: Qwen3Guard-Stream, which is another network.
"""

import re
from collections.abc import Mapping

from safety.categories import COPYRIGHT, JAILBREAK, POLITICS, PRIVACY
from safety.text.guards.adapter import ALL_LANGUAGES, Message, Role, UnreadableAnswer
from safety.text.language import Language

_SAFETY = re.compile(r"Safety: (Safe|Unsafe|Controversial)[ \t]*(?:\n|$)")
_CATEGORIES = re.compile(r"\s*Categories: ([^\n]+)(\n?)")
_SCORES = {"Unsafe": 1.0, "Controversial": 0.5}


class Qwen3Guard:
    """The adapter (safety.text.guards.adapter.GuardAdapter)."""

    name = "qwen3guard"
    model = "Qwen/Qwen3Guard-Gen-0.6B"
    languages: frozenset[Language] = ALL_LANGUAGES
    labels: Mapping[str, tuple[str, ...]] = {
        "Violent": ("violence", "illicit/violent"),
        "Non-violent Illegal Acts": ("illicit",),
        "Sexual Content or Sexual Acts": ("sexual",),
        "PII": (PRIVACY,),
        "Suicide & Self-Harm": ("self-harm",),
        "Unethical Acts": ("hate", "harassment"),
        "Politically Sensitive Topics": (POLITICS,),
        "Copyright Violation": (COPYRIGHT,),
        "Jailbreak": (JAILBREAK,),
    }
    max_new_tokens = 48

    def messages(self, text: str, role: Role) -> list[Message]:
        if role == "user":
            return [{"role": "user", "content": text}]
        return [{"role": "user", "content": ""}, {"role": "assistant", "content": text}]

    def template_arguments(self, role: Role) -> dict[str, str]:
        return {}

    def read(self, answer: str, role: Role, is_over: bool) -> dict[str, float] | None:
        answer = answer.lstrip()
        safety = _SAFETY.match(answer)
        if safety is None or (not is_over and "\n" not in safety[0]):
            if is_over:
                raise UnreadableAnswer(f"{self.name} did not say whether it is safe in {len(answer)} characters")
            return None
        if safety[1] == "Safe":
            return {}
        categories = _CATEGORIES.match(answer, safety.end())
        if categories is None or not (is_over or categories[2]):
            if is_over:
                raise UnreadableAnswer(f"{self.name} named no categories")
            return None
        names = [name.strip() for name in categories[1].split(",")]
        return dict.fromkeys(("" if name == "None" else name for name in names), _SCORES[safety[1]])
