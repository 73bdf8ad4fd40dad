"""Fixtures shared by the models' tests: a small made-up vocabulary, a tiny random Chat model."""

import string
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from models.checkpoints.loading import LoadedChat
from models.checkpoints.random_weights import random_chat
from models.emoji.drawings import NOTO_FONT_VARIABLE, DrawingError, Drawings, installed_styles, shared_drawings
from models.networks.chat.config import ChatConfig
from models.networks.cpm_bee.config import CPMBeeConfig
from models.networks.cpm_bee.tokenizer import Tokenizer
from models.networks.vision.config import VisionConfig
from tests.debian import absent

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


CHAT_SPECIAL = ["<pad>", "<unk>", "<mask>", "<sep>", "</n>", "</_>", "<s>", "</s>", "<root>", "<ans>", "<option>"]
CHAT_WORDS = ["image", "context", "question", "User", "AI", "图"]
CHAT_VOCABULARY = [*CHAT_SPECIAL, *string.ascii_letters, *string.punctuation, *CHAT_WORDS]


@pytest.fixture(scope="session")
def loaded() -> LoadedChat:
    """Answers end by chance and hold `<` and unknown words, whose rows are enlarged."""
    config = ChatConfig(
        llm=CPMBeeConfig(
            len(CHAT_VOCABULARY), dim_model=32, dim_ff=48, num_layers=2, num_heads=2, dim_head=16, half=False
        ),
        vision=VisionConfig(
            32, patch_size_px=16, width=32, num_heads=2, dim_ff=48, num_layers=1, num_query_positions=8
        ),
        num_query_tokens=4,
    )
    model = random_chat(config, "cpu", torch.float32, seed=7)
    for name, scale in (("</s>", 1.7), ("<", 1.8), ("<unk>", 2.5)):
        model.llm.embedding.weight.data[CHAT_VOCABULARY.index(name)] *= scale
    return LoadedChat(model, Tokenizer.from_entries(CHAT_VOCABULARY), config, fingerprint="f1", untrained=True)


@pytest.fixture(scope="session")
def noto() -> Drawings:
    """For tests marked `ops`: the drawings of Debian's font."""
    try:
        return shared_drawings("noto")
    except DrawingError as error:
        absent(str(error))


@pytest.fixture
def without_noto(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A machine without the font, whatever is installed on this one."""

    def forget() -> None:
        for function in (shared_drawings, installed_styles):
            function.cache_clear()

    monkeypatch.delenv(NOTO_FONT_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path / "share"))
    monkeypatch.setenv("HOME", str(tmp_path))
    forget()
    yield
    forget()
