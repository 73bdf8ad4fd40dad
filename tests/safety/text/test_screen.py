"""Which text screens run, by language."""

from collections.abc import Sequence

from safety.policy import TEXT_SCREENS
from safety.text.rule_files import Rule, RuleBook
from safety.text.rules import TextRules
from safety.text.screen import TextScreen

RULES = TextRules(RuleBook({"bomb": ("bomb", "炸弹")}, (Rule("r", "illicit", 1.0, ("bomb",)),), (), ("illicit",)))


class Checker:
    """Remembers what it saw."""

    def __init__(self) -> None:
        self.seen: list[list[str]] = []

    def scores(self, texts: Sequence[str]) -> list[dict[str, float]]:
        self.seen.append(list(texts))
        return [{"unsafe": 0.1 * place} for place, _ in enumerate(texts, 1)]


def test_the_checker_sees_chinese_alone_in_one_batch() -> None:
    checker = Checker()
    judged = TextScreen(RULES, checker).judge(["a bomb", "猫", "ネコ", "炸弹"])
    assert checker.seen == [["猫", "炸弹"]]
    assert [one.language for one in judged] == ["en", "zh", "ja", "zh"]
    assert [[finding.screen for finding in one.findings] for one in judged] == [
        ["rules"],
        ["rules", "prompt-checker"],
        ["rules"],
        ["rules", "prompt-checker"],
    ]
    assert [one.findings[0].scores["illicit"] for one in judged] == [1, 0, 0, 1]
    assert [one.findings[1].scores for one in judged if one.language == "zh"] == [{"unsafe": 0.1}, {"unsafe": 0.2}]


def test_without_a_checker_the_rules_run_alone() -> None:
    assert [finding.screen for finding in TextScreen(RULES).judge(["炸弹"])[0].findings] == ["rules"]


def test_no_checker_call_without_chinese_text() -> None:
    checker = Checker()
    TextScreen(RULES, checker).judge(["a bomb"])
    assert checker.seen == []


def test_the_policy_knows_the_screens_by_name() -> None:
    findings = TextScreen(RULES, Checker()).judge(["炸弹"])[0].findings
    assert tuple(finding.screen for finding in findings) == TEXT_SCREENS
