"""What tells one guard model from another: how it is asked, how its answer is read, and what its labels mean here.

Covered: the shape that every adapter has, and the way from its labels to our categories. A guard is a language model
that was trained to answer one question, whether a text is safe, in a fixed grammar.
Not covered: who runs it: `local.py` does so here, `server.py` asks a server.
"""

import hashlib
import inspect
import json
from collections.abc import Mapping
from typing import Literal, Protocol

from safety.categories import UNSAFE
from safety.text.language import Language

Role = Literal["user", "assistant"]  # who says the text: a question or prompt, or an answer
Message = dict[str, str]
Scores = dict[str, float]

ALL_LANGUAGES: frozenset[Language] = frozenset(("en", "zh", "ja", "other"))


class UnreadableAnswer(ValueError):
    """A guard said something that is not of its grammar. The message does not repeat it: it may hold the text."""


class GuardAdapter(Protocol):
    """One family of guard models.

    Attributes:
        name: under which the policy knows its findings.
        model: the name that it was published under, for servers.
        languages: that it was trained to judge.
        labels: the categories of ours that each of its labels stands for; an empty label is unsafe without one.
        max_new_tokens: of its longest answer.
    """

    name: str
    model: str
    languages: frozenset[Language]
    labels: Mapping[str, tuple[str, ...]]
    max_new_tokens: int

    def messages(self, text: str, role: Role) -> list[Message]:
        """The talk that its chat template renders."""

    def template_arguments(self, role: Role) -> dict[str, str]:
        """What its chat template wants beside the talk."""

    def read(self, answer: str, role: Role, is_over: bool) -> dict[str, float] | None:
        """Labels that the answer gives, with their score: 1 for unsafe, 0.5 for controversial. Empty: safe.

        Args:
            is_over: nothing follows.

        Returns:
            None where what follows may still decide.

        Raises:
            UnreadableAnswer: it is not of the guard's grammar.
        """


def category_scores(adapter: GuardAdapter, labels: Mapping[str, float]) -> Scores:
    """The score of every category that the guard judges, 0 where none of its labels was given.

    Raises UnreadableAnswer for a label that the guard does not have.
    """
    scores = {category: 0.0 for categories in adapter.labels.values() for category in categories} | {UNSAFE: 0.0}
    for label, score in labels.items():
        if label and label not in adapter.labels:
            raise UnreadableAnswer(f"{adapter.name} has the labels {', '.join(adapter.labels)}, and gave another one")
        for category in adapter.labels[label] if label else (UNSAFE,):
            scores[category] = max(score, scores[category])
    return scores


def asked_scores(adapter: GuardAdapter, answer: str, role: Role) -> Scores:
    """Category scores of a whole answer. Raises UnreadableAnswer."""
    labels = adapter.read(answer, role, True)
    if labels is None:
        raise UnreadableAnswer(f"{adapter.name} gave no verdict in its {len(answer)} characters")
    return category_scores(adapter, labels)


def adapter_version(adapter: GuardAdapter) -> str:
    """Changes whenever what is asked, how the answer is read, or what labels mean does. 12 hexadecimal digits."""
    roles: tuple[Role, ...] = ("user", "assistant")
    known = {
        "name": adapter.name,
        "labels": {label: list(categories) for label, categories in adapter.labels.items()},
        "asked": [[adapter.messages("\0", role), adapter.template_arguments(role)] for role in roles],
        "grammar": inspect.getsource(type(adapter)),
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:12]
