"""What rule files may say, and the forms that their words take."""

from pathlib import Path

import pytest

from safety.text.rule_files import RuleBook, RuleError, read_rules

WORDS = """
words:
  en: {verbs: {make: [make, stab, "set up"]}, nouns: {weapon: [bomb, knife edge, body]}}
  zh: {make: [做, 造]}
"""


def read(folder: Path, rules: str, words: str = WORDS) -> RuleBook:
    (folder / "words.yaml").write_text(words)
    (folder / "kind.yaml").write_text(rules)
    return read_rules(folder)


def test_english_words_take_their_forms(tmp_path: Path) -> None:
    words = read(tmp_path, "category: illicit").words
    assert set(words["words.en.make"]) == {
        *("make", "makes", "making", "maked", "stab", "stabs", "stabbing", "stabbed"),
        *("set up", "sets up", "setting up", "setted up"),
    }
    assert set(words["words.en.weapon"]) == {"bomb", "bombs", "knife edge", "knife edges", "body", "bodies"}
    assert words["words.zh.make"] == ("做", "造")


def test_a_rule_names_sets_here_or_in_the_shared_file(tmp_path: Path) -> None:
    book = read(
        tmp_path,
        "category: illicit\n"
        "words: {en: {phrases: {thing: [one thing]}}}\n"
        "rules: {en: ['make >5 thing', {find: thing + weapon, score: 0.5, unless: make}]}",
    )
    first, second = book.rules
    assert (first.sets, first.gaps, first.either_side) == (("words.en.make", "kind.en.thing"), (5,), (False,))
    assert (second.score, second.unless, second.either_side) == (0.5, ("words.en.make",), (True,))
    assert book.categories == ("illicit",)


def test_a_rule_joins_sets_of_its_own_of_the_shared_and_of_another_file(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("category: hate\nwords: {en: {phrases: {thing: [that]}}}")
    book = read(
        tmp_path,
        "category: illicit\n"
        "words: {en: {phrases: {thing: [this]}}}\n"
        "rules: {en: [{find: make > thing|other.thing, unless: weapon|thing, weak: true, blocks: [a], passes: [b]}]}",
    )
    (rule,) = book.rules
    assert rule.sets == ("words.en.make", "kind.en.thing|other.en.thing")
    assert rule.unless == ("words.en.weapon", "kind.en.thing") and rule.is_weak
    assert (rule.blocks, rule.passes) == (("a",), ("b",))
    assert rule.name == "kind.en: make > thing|other.thing unless weapon|thing"


@pytest.mark.parametrize(
    ("rules", "complaint"),
    [
        ("[]", "a rule file has the keys"),
        ("category: illicit\nextra: 1", "a rule file has the keys"),
        ("category: illicit\nrules: {en: [nothing]}", "no set 'nothing'"),
        ("category: illicit\nrules: {en: [make|nothing]}", "no set 'nothing'"),
        ("category: illicit\nrules: {en: [other.make]}", "no set 'other.make'"),
        ("category: illicit\nrules: {en: [make thing]}", "written set > set"),
        ("category: illicit\nrules: {en: ['make >']}", "written set > set"),
        ("category: rude\nrules: {en: [make]}", "unknown option, category or score"),
        ("category: illicit\nrules: {en: [{find: make, score: 2}]}", "unknown option, category or score"),
        ("category: illicit\nrules: {en: [{find: make, if: weapon}]}", "unknown option, category or score"),
        ("category: illicit\nrules: {fr: [make]}", "rules are for en or zh"),
        ("category: illicit\nwords: {fr: {}}", "words are in en or zh"),
        ("category: illicit\nwords: {en: {adverbs: {}}}", "English words are verbs, nouns, phrases"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, rules: str, complaint: str) -> None:
    with pytest.raises(RuleError, match=complaint):
        read(tmp_path, rules)


def test_the_shared_words_are_needed(tmp_path: Path) -> None:
    with pytest.raises(RuleError, match="lacks words.yaml"):
        read_rules(tmp_path)
