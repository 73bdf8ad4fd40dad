"""Packaged word lists as sets of our categories."""

import json
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import yaml

from safety.text.lists import EVERYDAY_SCORE, LISTS_DIR, read_lists
from safety.text.rule_files import Rule, RuleBook, RuleError, read_rules
from safety.text.rules import load_text_rules


@pytest.mark.slow
def test_everyday_words_of_the_lists_score_low_and_single_letters_nothing() -> None:
    rules = load_text_rules()
    assert rules.scores(["a rooster is a cock"])[0]["sexual"] == EVERYDAY_SCORE
    assert not rules.scores(["a$$ 性 奶"])[0]["sexual"]
    own = read_rules()
    listed = {term for name, terms in read_lists(own).words.items() if name not in own.words for term in terms}
    assert len(listed) > 600 and min(map(len, listed)) > 1


@pytest.fixture
def packaged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[list[str]], None]:
    """Puts a list where the packages are, of the package `listed`."""
    info = tmp_path / "packages" / "listed-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: listed\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(tmp_path / "packages")

    def put(words: list[str]) -> None:
        (tmp_path / "packages" / "words.json").write_text(json.dumps({"words": words}))

    return put


def review(folder: Path, **changed: object) -> Path:
    told = {
        "package": "listed",
        "file": "words.json",
        "usual_category": "profanity",
        "categories": {"hate": ["slur", 404]},
        "everyday": ["hen"],
        "allow": ["hen house"],
        **changed,
    }
    folder.mkdir(exist_ok=True)
    (folder / "listed.yaml").write_text(yaml.safe_dump(told))
    return folder


def test_words_are_sorted_by_category_and_score(packaged: Callable[[list[str]], None], tmp_path: Path) -> None:
    packaged(["damn", "slur", "404", "hen", "x", "h@te", "two words", "o'clock"])
    before = RuleBook({"a.en.b": ("c",)}, (Rule("r", "illicit", 0.5, ("a.en.b",)),), ("fine",), ("illicit",))
    book = read_lists(before, review(tmp_path / "lists"))
    assert book.words == {
        "a.en.b": ("c",),
        "listed.profanity.1": ("damn", "two words", "o'clock"),
        "listed.hate.1": ("slur", "404"),
        f"listed.profanity.{EVERYDAY_SCORE:g}": ("hen",),
    }
    assert {(rule.category, rule.score, rule.sets) for rule in book.rules[1:]} == {
        (name.split(".")[1], score, (name,))
        for name, score in (("listed.profanity.1", 1.0), ("listed.hate.1", 1.0), ("listed.profanity.0.4", 0.4))
    }
    assert book.rules[0] is before.rules[0] and book.allowed == ("fine", "hen house")
    assert book.categories == ("hate", "illicit", "profanity")
    assert before.words == {"a.en.b": ("c",)}, "the book that was given stays as it was"


def test_a_category_is_lifted_by_sets_that_a_rule_file_has(
    packaged: Callable[[list[str]], None], tmp_path: Path
) -> None:
    packaged(["damn", "slur"])
    book = RuleBook({"a.en.b": ("c",)}, (), ())
    rules = read_lists(book, review(tmp_path / "lists", unless={"hate": ["a.en.b"]})).rules
    assert {rule.category: rule.unless for rule in rules} == {"profanity": (), "hate": ("a.en.b",)}
    with pytest.raises(RuleError, match=r"listed\.yaml: hate is lifted by a\.en\.z, which no file has"):
        read_lists(book, review(tmp_path / "lists", unless={"hate": ["a.en.z"]}))


def test_a_category_that_is_none_is_refused_with_those_that_are(
    packaged: Callable[[list[str]], None], tmp_path: Path
) -> None:
    packaged(["damn"])
    allowed = "copyright, .*harassment, .*, violence/graphic"
    with pytest.raises(RuleError, match=f"^listed.yaml: 'rude' is not one of {allowed}$"):
        read_lists(RuleBook({}, (), ()), review(tmp_path / "lists", usual_category="rude"))


def test_a_package_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(PackageNotFoundError, match="not-installed-here"):
        read_lists(RuleBook({}, (), ()), review(tmp_path / "lists", package="not-installed-here"))


@pytest.mark.parametrize("path", sorted(LISTS_DIR.glob("*.yaml")), ids=lambda path: path.stem)
def test_no_review_names_a_word_in_two_categories(path: Path) -> None:
    told = yaml.safe_load(path.read_text("utf-8"))
    words = [str(word) for named in told["categories"].values() for word in named]
    assert sorted(words) == sorted(set(words))
