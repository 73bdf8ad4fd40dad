import re

import pytest

from models.emoji.names import EmojiName
from models.emoji.texts.english import article, definite_phrase, noun_phrase, sentence


@pytest.mark.parametrize(
    ("name", "phrase", "definite"),
    [
        ("red apple", "a red apple", "is the red apple"),
        ("onion", "an onion", "is the onion"),
        ("hourglass done", "an hourglass done", "is the hourglass done"),
        ("x-ray", "an x-ray", "is the x-ray"),
        ("unicorn", "a unicorn", "is the unicorn"),
        ("ewe", "a ewe", "is the ewe"),
        ("one-piece swimsuit", "a one-piece swimsuit", "is the one-piece swimsuit"),
        ("euro banknote", "a euro banknote", "is the euro banknote"),
        ("umbrella", "an umbrella", "is the umbrella"),
        ("grapes", "grapes", "are the grapes"),
        ("scissors", "scissors", "are the scissors"),
        ("bread", "bread", "is the bread"),
        ("sun", "the sun", "is the sun"),
    ],
)
def test_phrases(by_english: dict[str, EmojiName], name: str, phrase: str, definite: str) -> None:
    assert noun_phrase(by_english[name]) == phrase
    assert definite_phrase(by_english[name]) == definite


def test_a_plural_takes_no_article(names: tuple[EmojiName, ...]) -> None:
    with_article = [name.en for name in names if noun_phrase(name) in (f"a {name.en}", f"an {name.en}")]
    heads = [re.split(" with | showing | over | on | in ", en)[0] for en in with_article]
    singular = ("ss", "us", "rhinoceros")
    assert [head for head in heads if head.endswith("s") and not head.endswith(singular)] == []


def test_articles_follow_the_sound() -> None:
    assert [article(words) for words in ("orange", "blue", "uniform", "Apple")] == ["an", "a", "a", "an"]


def test_a_sentence_begins_large_and_ends() -> None:
    assert sentence("a T-Rex") == "A T-Rex."
