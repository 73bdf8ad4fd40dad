"""Fixtures shared by the models' tests: a small made-up vocabulary."""

import pytest

from models.cpm_bee.tokenizer import Tokenizer

# Ids differ from the published vocabulary's on purpose; `</n>` and `</_>` stand for newline and space.
SPECIAL = ["<root>", "<pad>", "</s>", "<unk>", "</_>", "<s>", "</n>", "<ans>", "<option>", "<mask>", "<eod>"]
WORDS = [
    *"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ<>=.,:?!_1234567890",
    *("image", "context", "question", "caption", "objects", "User:", "AI:", " is", " in", " the", " red", "ab", "abc"),
    *("abcd", "bcd", " <<", "猫", "图片", "一只", "什么", "的", "？", "。"),
]


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_entries(SPECIAL + WORDS)
