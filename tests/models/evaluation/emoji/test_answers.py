"""What counts as a right answer, and what must not."""

import pytest

from models.emoji.names import emoji_names
from models.emoji.texts.conversation import category_answer, name_answer
from models.evaluation.emoji.answers import judge, statement


@pytest.mark.parametrize(
    ("answer", "expected", "kind"),
    [
        ("A red apple.", "A red apple.", "name"),
        ("a red apple", "A red apple.", "name"),
        ("It is a red apple.", "A red apple.", "name"),
        ("It’s the red apple!", "A red apple.", "name"),
        ("Ｒｅｄ　ａｐｐｌｅ", "A red apple.", "name"),
        ("There are grapes.", "Grapes.", "name"),
        ("A red apple on a blue background.", "A red apple.", "name"),
        ("The background is blue.", "Blue.", "colour"),
        ("There are 2", "Two.", "count"),
        ("It is on the left side.", "On the left.", "where"),
        ("Food and drink", "Food and drink.", "category"),
    ],
)
def test_the_same_statement_in_other_english_words_is_right(answer: str, expected: str, kind: str) -> None:
    verdict = judge(answer, expected, kind, "en")
    assert verdict.correct
    assert verdict.exact is (answer == expected)


@pytest.mark.parametrize(
    ("answer", "expected", "kind"),
    [
        ("红苹果。", "红苹果。", "name"),
        ("红苹果", "红苹果。", "name"),
        ("这是一个红苹果。", "红苹果。", "name"),
        ("图里有红苹果", "红苹果。", "name"),
        ("蓝色背景上的红苹果。", "红苹果。", "name"),
        ("背景是蓝色的。", "蓝色。", "colour"),
        ("两个。", "2", "count"),
        ("一", "一个。", "count"),
        ("左边", "在左边。", "where"),
    ],
)
def test_the_same_statement_in_other_chinese_words_is_right(answer: str, expected: str, kind: str) -> None:
    assert judge(answer, expected, kind, "zh").correct


@pytest.mark.parametrize(
    ("answer", "expected", "kind"),
    [
        ("", "A red apple.", "name"),
        (".", "A red apple.", "name"),
        ("It is", "A red apple.", "name"),
        ("A green apple.", "A red apple.", "name"),
        ("Pineapple.", "Apple.", "name"),
        ("An apple core.", "An apple.", "name"),
        ("A dark red apple.", "A red apple.", "name"),
        ("Not a red apple.", "A red apple.", "name"),
        ("A red apple, a pear, a banana, grapes.", "A red apple.", "name"),
        ("A red apple or a pear.", "A red apple.", "name"),
        ("A red apple and a pear on a blue background.", "A red apple.", "name"),
        ("Red apple red apple", "A red apple.", "name"),
        ("红苹果。", "A red apple.", "name"),
        ("A red apple.", "A red apple on a blue background.", "scene"),
        ("A red apple on a green background.", "A red apple on a blue background.", "scene"),
        ("A red apple on a blue background.", "Food and drink.", "category"),
        ("Blue or green.", "Blue.", "colour"),
        ("Light blue.", "Blue.", "colour"),
        ("One two three four.", "Two.", "count"),
        ("On the left or on the right.", "On the left.", "where"),
    ],
)
def test_another_english_statement_is_wrong(answer: str, expected: str, kind: str) -> None:
    assert not judge(answer, expected, kind, "en").correct


@pytest.mark.parametrize(
    ("answer", "expected", "kind"),
    [
        ("青苹果。", "红苹果。", "name"),
        ("菠萝苹果", "苹果。", "name"),
        ("红苹果、梨、香蕉。", "红苹果。", "name"),
        ("不是红苹果。", "红苹果。", "name"),
        ("Red apple.", "红苹果。", "name"),
        ("绿色背景上的红苹果。", "蓝色背景上的红苹果。", "scene"),
        ("一二三四", "两个。", "count"),
        ("在左边在右边", "在左边。", "where"),
    ],
)
def test_another_chinese_statement_is_wrong(answer: str, expected: str, kind: str) -> None:
    assert not judge(answer, expected, kind, "zh").correct


@pytest.mark.parametrize("language", ["en", "zh"])
def test_no_two_names_become_one_statement(language: str) -> None:
    assert language in ("en", "zh")
    said = {statement(name_answer(name, language), language) for name in emoji_names()}
    assert "" not in said
    assert len(said) == len({name_answer(name, language) for name in emoji_names()}) == len(emoji_names())


def test_a_category_is_no_thing() -> None:
    name = emoji_names()[0]
    assert not judge(category_answer(name, "en"), name_answer(name, "en"), "name", "en").correct
