"""Answers that are some, and what is said to others."""

import pytest

from models.checkpoints.hub.collections import COLLECTIONS
from service.setup.answers import CHAT, PAINT, WrongAnswer, read_cards, read_models, read_source

GIB = 2**30


def test_the_names_are_those_of_fetch() -> None:
    assert {*CHAT, *PAINT} == {name for name in COLLECTIONS if name.startswith(("chat-", "paint-"))}


@pytest.mark.parametrize(
    ("text", "checkpoints"),
    [
        ("small", {"chat": "small", "paint": "small"}),
        ("small-paint", {"paint": "small"}),
        ("chat-v1.1", {"chat": "chat-v1.1"}),
        (" chat-balance, paint-zhplus ", {"chat": "chat-balance", "paint": "paint-zhplus"}),
        ("paint-balance,small-chat", {"paint": "paint-balance", "chat": "small"}),
    ],
)
def test_models(text: str, checkpoints: dict[str, str]) -> None:
    assert read_models(text) == checkpoints


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chat", "no model is called chat; allowed: small, small-chat"),
        (",", "no model is named"),
        ("chat-v1.1,small", "two checkpoints for chat"),
    ],
)
def test_wrong_models(text: str, message: str) -> None:
    with pytest.raises(WrongAnswer, match=message):
        read_models(text)


def test_cards() -> None:
    assert read_cards("cpu", (GIB,)) == ()
    assert read_cards("gpu", (24 * GIB,)) == (24 * GIB,)
    assert read_cards("24g, 7.5GiB", ()) == (24 * GIB, 7.5 * GIB)
    for text, message in (("gpu", "no GPU was found"), ("24", "24 is no card"), ("0g", "0g is no card")):
        with pytest.raises(WrongAnswer, match=message):
            read_cards(text, ())


def test_sources() -> None:
    for text in ("huggingface", "modelscope", "none", "https://hf-mirror.com"):
        assert read_source(text) == text
    with pytest.raises(WrongAnswer, match="modelscoop is no source"):
        read_source("modelscoop")
