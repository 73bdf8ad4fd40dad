"""Texts as a checkpoint's training spelled them: the bundled one's, and those that come as they are."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.checkpoints.bundled import bundled_checkpoint
from models.checkpoints.tiny import tiny_vocabulary
from models.checkpoints.training_text import TrainingText
from models.emoji.names import bundled_names
from models.emoji.texts.templates import QUESTIONS, TRANSLATE
from models.engines.text_folding import Fold, text_folding
from models.jobs import OnOffAuto
from models.networks.cpm_bee.tokenizer import Tokenizer

BUNDLED = Tokenizer(bundled_checkpoint("paint") / "vocab.txt")
LOWER = text_folding(TrainingText("lower", simplified_chinese=True), BUNDLED)
SENTENCE = text_folding(TrainingText("sentence", simplified_chinese=True), BUNDLED)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("Red Apple", "red apple"),
        ("RED APPLE", "red apple"),
        ("A Picture Of A Red Apple, Blue Background.", "a picture of a red apple, blue background."),
        ("the STATUE of liberty On The Left", "the Statue of Liberty on the left"),
        ("japanese castle", "Japanese castle"),
        ("a japanese castle", "a Japanese castle"),
        ("brain, aid", "brain, aid"),  # not brAIn, AId
        ("t恤", "T恤"),
        ("a<<B and <MASK>", "a<<b and <mask>"),
        ("紅蘋果", "红苹果"),
        ("一個紅蘋果 and a Red Apple", "一个红苹果 and a red apple"),
        ("乾坤, 乾", "乾坤, 干"),  # a phrase, where the character alone would err
    ],
)
def test_a_caption_is_read_as_it_was_learnt(written: str, read: str) -> None:
    assert LOWER(written) == read
    assert LOWER(read) == read


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("What Is This?", "What is this?"),
        ("WHAT'S ON THE LEFT?", "What's on the left?"),
        ("what is this?", "What is this?"),
        ("how do you say that in ENGLISH?", "How do you say that in English?"),
        ("這是什麼？", "这是什么？"),
        ("dvd在哪裡？", "dvd在哪里？"),
        ("", ""),
        ("ßa", "ßa"),  # its capital is two letters
    ],
)
def test_a_question_is_read_as_it_was_learnt(written: str, read: str) -> None:
    assert SENTENCE(written) == read


def test_every_name_is_found_in_any_case() -> None:
    for name in bundled_names():
        for spelled in (name.en, name.en.upper(), name.en.title(), name.en.lower()):
            assert LOWER(spelled) == name.en
        assert LOWER(name.zh) == (name.zh if name.zh != "DVD" else "dvd")


def test_questions_stay_as_they_were_learnt() -> None:
    templates = [text for texts in (*QUESTIONS.values(), TRANSLATE) for one in texts.values() for text in one]
    for text in templates:
        assert SENTENCE(text) == text
        if "{" not in text:
            assert SENTENCE(text.upper()) == text


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(st.text(st.sampled_from("aAbzZ éÉñÑ🍎\u200b紅红蘋苹果鱻İß<>.'")) | st.text())
def test_what_is_unknown_stays_as_it_was_written(text: str) -> None:
    for fold in (LOWER, SENTENCE):
        folded = fold(text)
        assert len(folded) == len(text)
        entries = BUNDLED.plain_entries
        assert all(new == old or new in entries for old, new in zip(text, folded, strict=True))
        assert fold(folded) == folded


def test_other_checkpoints_read_texts_as_they_come() -> None:
    text = "Red Apple 紅蘋果 ÉCLAIR 🍎"
    assert text_folding(TrainingText(), BUNDLED)(text) == text
    assert text_folding(TrainingText("lower"), Tokenizer.from_entries(tiny_vocabulary()))("Red APPLE") == "red apple"


@pytest.mark.parametrize(
    ("setting", "simplified_only", "folds"),
    [
        *(("auto", True, True), ("auto", False, False)),
        *(("on", False, True), ("on", True, True)),
        *(("off", True, False), ("off", False, False)),
    ],
)
def test_traditional_characters_are_folded_as_set(setting: OnOffAuto, simplified_only: bool, folds: bool) -> None:
    fold: Fold = text_folding(TrainingText("mixed", simplified_only), BUNDLED, setting)
    assert fold("Red 紅蘋果") == ("Red 红苹果" if folds else "Red 紅蘋果")
