"""Llama Guard 3 and 4 (Meta, Llama community licences): eight languages without Chinese, the hazards of MLCommons.

Covered: the answer `safe`, or `unsafe` and a second line of codes. The policy is in the chat template that comes with
the checkpoint; version 3 of 1B and version 4 want a message's text in parts, which who renders it finds out.
Not covered: pictures, which version 4 judges too; categories of one's own in place of the published ones.
"""

import re
from collections.abc import Mapping

from safety.text.guards.adapter import Message, Role, UnreadableAnswer
from safety.text.guards.hazards import HAZARDS
from safety.text.language import Language

_ANSWER = re.compile(r"(safe|unsafe)[ \t]*(?:\n\s*([^\n]*)(\n?)|\Z)")
_CODES = re.compile(r"S\d{1,2}(?:\s*,\s*S\d{1,2})*")


class LlamaGuard:
    """The adapter (safety.text.guards.adapter.GuardAdapter)."""

    # English, French, German, Hindi, Italian, Portuguese, Spanish, Thai
    languages: frozenset[Language] = frozenset(("en", "other"))
    labels: Mapping[str, tuple[str, ...]] = HAZARDS
    max_new_tokens = 24

    def __init__(self, name: str, model: str) -> None:
        self.name = name
        self.model = model

    def messages(self, text: str, role: Role) -> list[Message]:
        if role == "user":
            return [{"role": "user", "content": text}]
        return [{"role": "user", "content": ""}, {"role": "assistant", "content": text}]

    def template_arguments(self, role: Role) -> dict[str, str]:
        return {}

    def read(self, answer: str, role: Role, is_over: bool) -> dict[str, float] | None:
        said = _ANSWER.match(answer.lstrip())
        if said is not None and (is_over or said[2] is not None):
            word, codes, is_whole_line = said[1], (said[2] or "").strip(), is_over or bool(said[3])
            if not codes and (word == "safe" or is_over):
                return {} if word == "safe" else {"": 1.0}
            if word == "unsafe" and is_whole_line and _CODES.fullmatch(codes):
                return dict.fromkeys((code.strip() for code in codes.split(",")), 1.0)
        if is_over:
            raise UnreadableAnswer(f"{self.name} says safe, or unsafe and codes; this is neither")
        return None
