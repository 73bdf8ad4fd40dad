"""Ordinary Chinese words around what looks like a term."""

import pytest

from safety.text.chinese_words import WORDS_PATH, OrdinaryWords, read_ordinary_words

WORDS = OrdinaryWords(["满足", "交通", "戏剧", "戏剧性", "姿势", "交替", "拍照", "照片", "练习", "人口"], ["男人"])


@pytest.mark.parametrize(
    ("text", "term", "is_part"),
    [
        ("满足交通", "足交", True),
        ("戏剧性姿势", "性姿势", True),
        ("口交替练习", "口交", True),
        ("偷拍照片", "偷拍", False),
        ("偷拍照", "偷拍", True),
        ("说足交的人", "足交", False),
        ("足交", "足交", False),
        ("给男人口交", "口交", False),
        ("全人口交易", "口交", True),
    ],
)
def test_a_term_is_none_where_ordinary_words_hold_its_characters(text: str, term: str, is_part: bool) -> None:
    start = text.index(term)
    assert WORDS.straddle(text, start, start + len(term)) is is_part


def test_the_list_holds_words_alone() -> None:
    words = read_ordinary_words()
    assert len(words) > 10_000 and {"交通", "满足", "惊艳"} <= words
    assert all(2 <= len(word) <= 4 and not word.isascii() for word in words)
    assert "MIT" in WORDS_PATH.read_text("utf-8").splitlines()[0]
