"""The questions' texts: enough of them in both languages, each with the marks that it needs and no others."""

import string
from itertools import combinations

import pytest

from models.emoji.names import EmojiName
from models.emoji.texts.conversation import QUESTIONS_ABOUT_NAMES, QUESTIONS_OF_ALL_KINDS
from models.emoji.texts.english import definite_phrase
from models.emoji.texts.templates import QUESTIONS, TRANSLATE

FOLLOW_UPS = {"follow_category", "follow_colour", "follow_left", "follow_right"}


def test_every_question_that_is_asked_has_templates_and_none_is_left_over() -> None:
    first = {kind for questions in QUESTIONS_OF_ALL_KINDS.values() for kind, _ in questions}
    assert {kind for questions in QUESTIONS_ABOUT_NAMES.values() for kind, _ in questions} <= first
    assert set(QUESTIONS) == first | FOLLOW_UPS
    assert set(TRANSLATE) == {"en", "zh"}


def test_templates_hold_the_fields_that_are_filled_in() -> None:
    for kind, templates in QUESTIONS.items():
        for language, texts in templates.items():
            for text in texts:
                fields = {field for _, field, _, _ in string.Formatter().parse(text) if field is not None}
                expected = {"is_the" if language == "en" else "zh"} if kind == "where" else set()
                assert fields == expected, text
    assert not any("{" in text for texts in TRANSLATE.values() for text in texts)


def test_a_filled_in_question_names_the_thing(by_english: dict[str, EmojiName]) -> None:
    apple, grapes = by_english["red apple"], by_english["grapes"]
    english = QUESTIONS["where"]["en"][0]
    assert english.format(is_the=definite_phrase(apple)) == "Where is the red apple?"
    assert english.format(is_the=definite_phrase(grapes)) == "Where are the grapes?"
    assert QUESTIONS["where"]["zh"][0].format(zh=apple.zh) == "红苹果在哪里？"


def test_no_question_of_one_kind_reads_as_another() -> None:
    """Else one text would have two right answers."""
    of_kind = {kind: {text for texts in templates.values() for text in texts} for kind, templates in QUESTIONS.items()}
    of_kind["translate"] = {text for texts in TRANSLATE.values() for text in texts}
    for one, other in combinations(of_kind, 2):
        assert not of_kind[one] & of_kind[other], (one, other)
    assert not set(TRANSLATE["en"]) & set(TRANSLATE["zh"])


def test_every_kind_has_six_templates_and_more_in_each_language() -> None:
    for kind, templates in QUESTIONS.items():
        for language in ("en", "zh"):
            texts = templates[language]  # type: ignore[index]
            assert len(texts) >= 6 and len(set(texts)) == len(texts), (kind, language)
    assert all(len(texts) >= 12 for texts in TRANSLATE.values())


@pytest.mark.parametrize(
    ("kind", "language", "template"),
    [
        ("name", "en", "What is this?"),
        ("scene", "en", "What is in the picture?"),
        ("scene", "en", "What do you see?"),
        ("colour", "en", "What colour is the background?"),
        ("name", "zh", "这是什么？"),
        ("scene", "zh", "图里有什么？"),
        ("follow_category", "en", "And its category?"),
    ],
)
def test_what_people_would_try_first_is_among_the_templates(kind: str, language: str, template: str) -> None:
    assert template in QUESTIONS[kind][language]  # type: ignore[index]


def test_what_people_would_ask_next_is_among_the_templates() -> None:
    assert {"Say it in Chinese.", "用中文怎么说？"} <= set(TRANSLATE["zh"])
    assert {"Say it in English.", "用英文怎么说？"} <= set(TRANSLATE["en"])
