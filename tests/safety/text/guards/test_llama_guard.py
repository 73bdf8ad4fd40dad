"""Llama Guard's word and its line of codes."""

import pytest

from safety.text.guards.adapter import UnreadableAnswer
from safety.text.guards.llama_guard import LlamaGuard

GUARD = LlamaGuard("llama-guard-3", "m")


@pytest.mark.parametrize(
    ("answer", "labels"),
    [
        ("safe", {}),
        ("\n\nsafe\n", {}),
        ("unsafe\nS1", {"S1": 1.0}),
        ("\n\nunsafe\nS1,S10", {"S1": 1.0, "S10": 1.0}),
        ("unsafe\nS2, S3\n", {"S2": 1.0, "S3": 1.0}),
        ("unsafe", {"": 1.0}),
    ],
)
def test_a_whole_answer(answer: str, labels: dict[str, float]) -> None:
    assert GUARD.read(answer, "user", True) == labels


@pytest.mark.parametrize(
    "answer", ["", "Safe", "safely", "it is safe", "safe\nS1", "unsafe\nviolence", "unsafe S1", "safe unsafe"]
)
def test_what_is_not_of_the_grammar_is_no_verdict(answer: str) -> None:
    with pytest.raises(UnreadableAnswer):
        GUARD.read(answer, "user", True)


def test_an_answer_is_decided_when_it_is_over() -> None:
    for answer in ("", "\n\n", "un", "unsafe", "unsafe\nS1", "safe"):
        assert GUARD.read(answer, "user", False) is None
    assert GUARD.read("unsafe\nS1\n", "user", False) == {"S1": 1.0}
    assert GUARD.read("safe\n", "user", False) == {}


def test_chinese_is_none_of_its_languages() -> None:
    assert "zh" not in GUARD.languages and "en" in GUARD.languages
