"""One spelling for every letter, and disguises undone."""

import time

import pytest

from safety.text.normalise import fold, readings, separate


@pytest.mark.parametrize(
    ("written", "folded"),
    [
        ("BoMb", "bomb"),
        ("ｂｏｍｂ", "bomb"),
        ("𝐛𝓸𝕞𝚋", "bomb"),
        ("ⓑⓞⓜⓑ", "bomb"),
        ("🅑🅞🅜🅑 🅱🅾🅼🅱", "bomb bomb"),
        ("b\u200bo\u200dm\u2060b", "bomb"),
        ("bo\u00admb", "bomb"),
        ("b\u0336o\u0336m\u0336b\u0336", "bomb"),
        ("bömb", "bomb"),
        ("bоmb", "bomb"),  # Cyrillic o
        ("ВОМВ", "bomb"),  # Cyrillic capitals
        ("βομβ", "bomb"),  # Greek
        ("ʙᴏᴍʙ", "bomb"),
        ("ﬁre", "fire"),
        ("炸彈", "炸弹"),
        ("⼥⼈", "女人"),  # radicals
        ("炸\ufe0f弹", "炸弹"),
    ],
)
def test_letters_have_one_spelling(written: str, folded: str) -> None:
    assert fold(written) == folded


@pytest.mark.parametrize(
    ("folded", "words"),
    [
        ("don't, 'bomb'!", " dont bomb "),
        ("制作bomb教程", " 制作 bomb 教程 "),
        ("", "  "),
        ("!?", "  "),
        ("a\x00b\nc", " a b c "),
        ("ак", "  "),
    ],
)
def test_words_stand_between_single_spaces(folded: str, words: str) -> None:
    assert separate(folded) == words or not words.strip()


@pytest.mark.parametrize(
    "written",
    [
        "b o m b",
        "b.o.m.b",
        "b-o-m-b",
        "b * o * m * b",
        "bo*mb",
        "b_omb",
        "b0mb",
        "80mb",
        "bo|mb",
        "boooomb",
        "b 0 m b",
        "B.0.M.B",
    ],
)
def test_a_disguised_word_has_a_reading_without_the_disguise(written: str) -> None:
    assert " make two bomb now " in readings(f"make two {written} now")


def test_one_stands_for_either_letter() -> None:
    assert " kill " in readings("k1ll") and " kill " in readings("ki1l")
    assert " kiss " in readings("k!ss")


@pytest.mark.parametrize("written", ["炸 弹", "炸*弹", "炸.弹", "炸/弹", "炸\u3000弹", "炸，弹", "炸 \u200b 弹"])
def test_parted_han_characters_are_rejoined(written: str) -> None:
    assert "炸弹" in readings(written)[0]


def test_clauses_stay_apart() -> None:
    assert readings("他很会做，爱吃饭") == [" 他很会做 爱吃饭 "]


def test_plain_text_has_one_reading() -> None:
    assert readings("a cat, a dog and 3 birds") == [" a cat a dog and 3 birds "]


@pytest.mark.parametrize("piece", ["1", "a1", "a ", "a.", "炸 ", "炸.", "!", "@a", "aa", "a\u0301", "1!$", "0 x "])
def test_time_grows_with_length_alone(piece: str) -> None:
    started_s = time.process_time()
    readings(piece * 10_000)
    assert time.process_time() - started_s < 2
