"""Granite Guardian 3.0 to 3.3 (IBM, Apache-2.0; 2B to 8B): English, its umbrella risk `harm`, yes or no.

Covered: `Yes` or `No`, behind which 3.1 and 3.2 say how sure they are, and the `<score>` of 3.3, before which it may
think. The chat template that comes with the checkpoint asks about `harm` where nothing else is wanted.
Not covered: its single risks, a pass for each; groundedness; 4.1, whose criterion is a message of its own.
"""

import re
from collections.abc import Mapping

from safety.categories import UNSAFE
from safety.text.guards.adapter import Message, Role, UnreadableAnswer
from safety.text.language import Language

_THOUGHT = re.compile(r"\s*<think>.*?</think>", re.DOTALL)
_SCORE = re.compile(r"\s*<score>\s*(yes|no)\s*</score>", re.IGNORECASE)
_LABEL = re.compile(r"\s*(Yes|No)(?![A-Za-z])")


class GraniteGuardian:
    """The adapter (safety.text.guards.adapter.GuardAdapter)."""

    name = "granite-guardian"
    model = "ibm-granite/granite-guardian-3.3-8b"
    languages: frozenset[Language] = frozenset(("en",))
    labels: Mapping[str, tuple[str, ...]] = {"Yes": (UNSAFE,)}
    max_new_tokens = 24

    def messages(self, text: str, role: Role) -> list[Message]:
        return [{"role": role, "content": text}]

    def template_arguments(self, role: Role) -> dict[str, str]:
        return {}

    def read(self, answer: str, role: Role, is_over: bool) -> dict[str, float] | None:
        rest = _THOUGHT.sub("", answer, count=1)
        said = _SCORE.match(rest) or _LABEL.match(rest)
        if said is not None:
            return {"Yes": 1.0} if said[1].lower() == "yes" else {}
        if is_over:
            raise UnreadableAnswer(f"{self.name} says yes or no; this is neither")
        return None
