"""Which text screens run, by language."""

from collections.abc import Sequence

from safety.policy import TEXT_SCREENS
from safety.text.language import Language
from safety.text.rule_files import Rule, RuleBook
from safety.text.rules import TextRules
from safety.text.screen import TextScreen, judges_language

RULES = TextRules(RuleBook({"bomb": ("bomb", "炸弹")}, (Rule("r", "illicit", 1.0, ("bomb",)),), (), ("illicit",)))


class Checker:
    """Remembers what it saw, and says nothing of `?`."""

    name, fingerprint = "prompt-checker", "weights"
    languages: frozenset[Language] = frozenset(("zh",))

    def __init__(self) -> None:
        self.seen: list[list[str]] = []
        self.roles: list[str] = []

    def scores(self, texts: Sequence[str], roles: Sequence[str]) -> list[dict[str, float] | None]:
        self.seen.append(list(texts))
        self.roles += roles
        return [None if "?" in text else {"unsafe": 0.1 * place} for place, text in enumerate(texts, 1)]


class Guard(Checker):
    name = "qwen3guard"
    languages: frozenset[Language] = frozenset(("en", "zh", "ja", "other"))


def test_the_checker_sees_chinese_alone_in_one_batch() -> None:
    checker = Checker()
    judged = TextScreen(RULES, [checker]).judge(["a bomb", "猫", "ネコ", "炸弹"])
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
    TextScreen(RULES, [checker]).judge(["a bomb"])
    assert checker.seen == []


def test_several_screens_judge_what_they_declare_and_say_their_version() -> None:
    checker, guard = Checker(), Guard()
    english, chinese = TextScreen(RULES, [checker, guard]).judge(["a cat", "猫"], ["assistant", "user"])
    assert [(one.screen, one.version) for one in english.findings] == [
        ("rules", RULES.version),
        ("qwen3guard", "weights"),
    ]
    assert [one.screen for one in chinese.findings] == ["rules", "prompt-checker", "qwen3guard"]
    assert guard.seen == [["a cat", "猫"]] and guard.roles == ["assistant", "user"] and checker.roles == ["user"]


def test_a_screen_without_a_judgement_is_named_and_the_others_are_there() -> None:
    [judged] = TextScreen(None, [Checker(), Guard()]).judge(["猫?"])
    assert judged.undecided == ("prompt-checker", "qwen3guard") and judged.findings == ()


def test_what_judges_a_language() -> None:
    assert judges_language([Checker()], "zh") and not judges_language([Checker()], "en")
    assert judges_language([Checker(), Guard()], "en") and not judges_language([], "zh")


def test_the_policy_knows_the_screens_by_name() -> None:
    findings = TextScreen(RULES, [Checker()]).judge(["炸弹"])[0].findings
    assert tuple(finding.screen for finding in findings) == TEXT_SCREENS
