"""All text screens together, each on the texts of the languages that it declares.

Covered: the rules for every text; any number of classifiers beside them, such as the release's prompt checker for
Chinese and a guard model for what it was trained in.
Not covered: languages that no screen declares, which only the words that they share with the rules' can betray.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from safety.text.guards.adapter import Role, Scores
from safety.text.language import Language, language_of
from safety.text.rules import NAME, TextRules
from safety.verdict import Finding

CHECKER = "prompt-checker"


class TextClassifier(Protocol):
    """A screen of texts, loaded where its libraries may be.

    Attributes:
        name: under which the policy knows it.
        languages: of the texts that it judges.
        fingerprint: changes whenever its scores may: other weights, another template, other labels.
    """

    @property
    def name(self) -> str: ...

    @property
    def languages(self) -> frozenset[Language]: ...

    @property
    def fingerprint(self) -> str: ...

    def scores(self, texts: Sequence[str], roles: Sequence[Role]) -> Sequence[Scores | None]:
        """Of each text the score, 0 to 1, of every category that is judged; None where it came to no judgement."""


class JudgedText(NamedTuple):
    """What the screens that ran on a text found; its language chose them. `undecided` names those without a result."""

    language: Language
    findings: tuple[Finding, ...]
    undecided: tuple[str, ...] = ()


class TextScreen:
    """Judges texts in batches. Without rules where those have run elsewhere."""

    def __init__(self, rules: TextRules | None, screens: Sequence[TextClassifier] = ()) -> None:
        self._rules = rules
        self._screens = tuple(screens)

    def judge(self, texts: Sequence[str], roles: Sequence[Role] = ()) -> list[JudgedText]:
        """One result a text, in order.

        Args:
            roles: who says each text; empty: a user says all of them.
        """
        roles = roles or ["user"] * len(texts)
        languages = [language_of(text) for text in texts]
        findings: list[list[Finding]] = [[] for _ in texts]
        undecided: list[list[str]] = [[] for _ in texts]
        if self._rules is not None:
            for place, scores in enumerate(self._rules.scores(texts)):
                findings[place].append(Finding(NAME, scores, self._rules.version))
        for screen in self._screens:
            own = [place for place, language in enumerate(languages) if language in screen.languages]
            judged = screen.scores([texts[place] for place in own], [roles[place] for place in own]) if own else []
            for place, one in zip(own, judged, strict=True):
                if one is None:
                    undecided[place].append(screen.name)
                else:
                    findings[place].append(Finding(screen.name, one, screen.fingerprint))
        return [
            JudgedText(language, tuple(found), tuple(missing))
            for language, found, missing in zip(languages, findings, undecided, strict=True)
        ]


def judges_language(screens: Sequence[TextClassifier], language: Language) -> bool:
    """Whether any of them judges texts of this language."""
    return any(language in screen.languages for screen in screens)
