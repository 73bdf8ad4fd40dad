from typing import Any

import pytest

from models.checkpoints.bundled import bundled_checkpoint
from models.checkpoints.companion_files import VOCABULARY_FILE
from models.emoji.drawings import Style
from models.emoji.names import EmojiName, bundled_names
from models.emoji.sources import EmojiConversations, EmojiPictures
from models.emoji.texts.vocabulary import vocabulary
from models.networks.cpm_bee.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def entries(names: tuple[EmojiName, ...]) -> list[str]:
    return vocabulary(names)


@pytest.fixture(scope="module")
def tokenizer(entries: list[str]) -> Tokenizer:
    return Tokenizer.from_entries(entries)


def texts_of(tokenizer: Tokenizer, text: str) -> list[str]:
    pieces = tokenizer.pieces(text)
    assert not any(piece.is_unknown for piece in pieces), text
    return [piece.text for piece in pieces]


def test_the_file_keeps_to_the_published_form(entries: list[str]) -> None:
    assert entries[:2] == ["<pad>", "<unk>"] and entries[-1] == "<eod>"
    assert len(set(entries)) == len(entries) < 6500
    assert all(entry and "\n" not in entry for entry in entries) and " " not in entries


@pytest.mark.slow
def test_a_name_is_one_entry_wherever_it_stands(tokenizer: Tokenizer, names: tuple[EmojiName, ...]) -> None:
    for name in names:
        assert texts_of(tokenizer, name.en) == [name.en]
        capitalised = name.en[0].upper() + name.en[1:]
        assert texts_of(tokenizer, capitalised) == [capitalised]
        assert f" {name.en}" in texts_of(tokenizer, f"a {name.en} on a blue background")
        assert f" {name.en}" in texts_of(tokenizer, f"Where is the {name.en}?")
        for frame in (
            "{}",
            "{}。",
            "蓝色背景上的{}。",
            "画一个{}",
            "{}在左边",
            "{}，蓝色背景",
            "{}的图片",
            "哪一边是{}？",
        ):
            assert name.zh in texts_of(tokenizer, frame.format(name.zh)), frame
        assert texts_of(tokenizer, f"{name.zh}以及{name.zh}").count(name.zh) == 2


@pytest.mark.slow
def test_conversations_are_made_of_whole_words(
    tokenizer: Tokenizer, names: tuple[EmojiName, ...], styles: tuple[Style, ...]
) -> None:
    source = EmojiConversations(names, styles[:1], 96, seed=3, num_examples=1200)
    for index in range(len(source)):
        for asked in source.scene_and_rounds(index, 0)[1]:
            for text in (asked.question, asked.answer):
                spelled = [piece for piece in texts_of(tokenizer, text) if len(piece) == 1 and piece.isascii()]
                assert not any(piece.isalpha() and piece not in "Aa" or piece == " " for piece in spelled), text


@pytest.mark.slow
def test_captions_are_made_of_whole_words(
    tokenizer: Tokenizer, names: tuple[EmojiName, ...], styles: tuple[Style, ...]
) -> None:
    source = EmojiPictures(names, styles[:1], 16, seed=3, num_examples=1000)
    for index in range(len(source)):
        caption = source.picture(index, 0).caption
        spelled = [piece for piece in texts_of(tokenizer, caption) if len(piece) == 1 and piece.isascii()]
        assert not any(piece.isalpha() and piece not in "Aa" or piece == " " for piece in spelled), caption


def test_keys_and_turns_of_prompts_are_whole(tokenizer: Tokenizer) -> None:
    for word in ("image", "context", "question", "caption", "objects", "User", "AI"):
        assert texts_of(tokenizer, word) == [word]


def test_any_printable_ascii_can_be_typed(tokenizer: Tokenizer) -> None:
    texts_of(tokenizer, "".join(chr(code) for code in range(33, 127) if chr(code) != "<") + "<<")


@pytest.mark.parametrize("kind", ["chat", "paint"])
def test_its_vocabulary_is_made_of_the_names(names: tuple[EmojiName, ...], kind: Any) -> None:
    written = (bundled_checkpoint(kind) / VOCABULARY_FILE).read_text(encoding="utf-8")
    assert written.split("\n") == vocabulary(bundled_names())
