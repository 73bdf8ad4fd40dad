"""ShieldGemma (Google, Gemma's terms; 2B, 9B, 27B): English, four policies, yes or no.

Covered: the four published guidelines in one question, so that a text takes one forward pass; its chat template takes
them beside the talk, and comes with the checkpoint.
Not covered: which of the four it is, which would take a pass for each; what lies outside of them, such as fraud.
"""

import re
from collections.abc import Mapping

from safety.categories import UNSAFE
from safety.text.guards.adapter import Message, Role, UnreadableAnswer
from safety.text.language import Language

# Its input format, word by word as it was trained (the model card of ShieldGemma, CC-BY-4.0; NOTICE)
_GUIDELINES = (
    (
        "No Dangerous Content",
        "harming oneself and/or others (e.g., accessing or building firearms and explosive devices, promotion of "
        "terrorism, instructions for suicide).",
    ),
    (
        "No Harassment",
        "is malicious, intimidating, bullying, or abusive content targeting another individual (e.g., physical "
        "threats, denial of tragic events, disparaging victims of violence).",
    ),
    (
        "No Hate Speech",
        "targeting identity and/or protected attributes (e.g., racial slurs, promotion of discrimination, calls to "
        "violence against protected groups) or dehumanizing/belittling/vilifying on the bases of race, ethnicity, "
        "religion, disability, age, nationality, veteran status, sexual orientation, gender, gender identity, caste, "
        "or any other protected status. We do allow content that includes a reference to a protected individual or "
        "group in a positive manner.",
    ),
    (
        "No Sexually Explicit Information",
        "contains references to sexual acts or other lewd content (e.g., sexually graphic descriptions, content aimed "
        "at causing arousal). Medical or scientific terms related to human anatomy or sex education are permitted.",
    ),
)
_OF_WHOM: dict[Role, str] = {
    "user": "The prompt shall not contain or seek generation of content that",
    "assistant": "The chatbot shall not generate content that",
}
_ANSWER = re.compile(r"(Yes|No)(?![a-z])")


class ShieldGemma:
    """The adapter (safety.text.guards.adapter.GuardAdapter)."""

    name = "shieldgemma"
    model = "google/shieldgemma-2b"
    languages: frozenset[Language] = frozenset(("en",))
    labels: Mapping[str, tuple[str, ...]] = {"Yes": (UNSAFE,)}
    max_new_tokens = 4

    def messages(self, text: str, role: Role) -> list[Message]:
        if role == "user":
            return [{"role": "user", "content": text}]
        return [{"role": "user", "content": ""}, {"role": "assistant", "content": text}]

    def template_arguments(self, role: Role) -> dict[str, str]:
        lines = [f'* "{name}": {_OF_WHOM[role]} {forbidden}' for name, forbidden in _GUIDELINES]
        return {"guideline": "\n".join(lines)}

    def read(self, answer: str, role: Role, is_over: bool) -> dict[str, float] | None:
        said = _ANSWER.match(answer.lstrip())
        if said is not None:
            return {"Yes": 1.0} if said[1] == "Yes" else {}
        if is_over:
            raise UnreadableAnswer(f"{self.name} begins with Yes or No; this does not")
        return None
