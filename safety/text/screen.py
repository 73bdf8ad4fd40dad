"""All text screens together, chosen by language.

Covered: the rules for every text; the release's prompt checker, where it is configured, for Chinese ones alone.
Not covered: other languages than English and Chinese, which only the words that they share with those two can betray.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from safety.text.language import Language, language_of
from safety.text.rules import NAME, TextRules
from safety.verdict import Finding

CHECKER = "prompt-checker"


class PromptChecker(Protocol):
    """A classifier of Chinese prompts, loaded where its libraries may be: `safety.text.bert_checker`.

    Attributes:
        fingerprint: changes whenever its scores may: other weights, another unsafe label.
    """

    @property
    def fingerprint(self) -> str: ...

    def scores(self, texts: Sequence[str]) -> list[dict[str, float]]: ...


class JudgedText(NamedTuple):
    """What the screens that ran on a text found; its language chose them."""

    language: Language
    findings: tuple[Finding, ...]


class TextScreen:
    """Judges texts in batches."""

    def __init__(self, rules: TextRules, checker: PromptChecker | None = None) -> None:
        self._rules = rules
        self._checker = checker

    def judge(self, texts: Sequence[str]) -> list[JudgedText]:
        """One result a text, in order."""
        languages = [language_of(text) for text in texts]
        findings = [[Finding(NAME, scores)] for scores in self._rules.scores(texts)]
        chinese = [place for place, language in enumerate(languages) if language == "zh"]
        if self._checker is not None and chinese:
            checked = self._checker.scores([texts[place] for place in chinese])
            for place, scores in zip(chinese, checked, strict=True):
                findings[place].append(Finding(CHECKER, scores))
        return [JudgedText(language, tuple(found)) for language, found in zip(languages, findings, strict=True)]
