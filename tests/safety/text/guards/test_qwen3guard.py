"""Qwen3Guard's two lines, whole and while they are being said."""

import pytest

from safety.text.guards.adapter import UnreadableAnswer
from safety.text.guards.qwen3guard import Qwen3Guard

GUARD = Qwen3Guard()


@pytest.mark.parametrize(
    ("answer", "labels"),
    [
        ("Safety: Safe\nCategories: None", {}),
        ("Safety: Safe\nCategories: None\nRefusal: Yes", {}),
        ("\n\nSafety: Safe", {}),
        ("Safety: Unsafe\nCategories: Violent", {"Violent": 1.0}),
        ("Safety: Unsafe\nCategories: Violent, PII\nRefusal: No", {"Violent": 1.0, "PII": 1.0}),
        ("Safety: Controversial\nCategories: Suicide & Self-Harm\n", {"Suicide & Self-Harm": 0.5}),
        ("Safety: Unsafe\nCategories: None", {"": 1.0}),
    ],
)
def test_a_whole_answer(answer: str, labels: dict[str, float]) -> None:
    assert GUARD.read(answer, "user", True) == labels


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "Safe",
        "safety: safe",
        "Safety: Safest",
        "Safety: Safe-ish",
        "Sure! Safety: Safe",
        "Safety: Unsafe",
        "Safety: Unsafe\nI will not say why",
        "Categories: None",
    ],
)
def test_what_is_not_of_the_grammar_is_no_verdict(answer: str) -> None:
    with pytest.raises(UnreadableAnswer) as caught:
        GUARD.read(answer, "user", True)
    assert "I will not" not in str(caught.value), "an answer may hold the text"


def test_an_answer_is_decided_as_soon_as_it_can_be_and_no_sooner() -> None:
    whole = "Safety: Unsafe\nCategories: Sexual Content or Sexual Acts, Jailbreak\nRefusal: No"
    decided = [end for end in range(len(whole)) if GUARD.read(whole[:end], "user", False) is not None]
    assert decided[0] == whole.index("Refusal")
    whole = "Safety: Safe\nCategories: None"
    decided = [end for end in range(len(whole)) if GUARD.read(whole[:end], "user", False) is not None]
    assert decided[0] == whole.index("Categories")


def test_an_answer_is_asked_about_as_an_answer() -> None:
    assert [one["role"] for one in GUARD.messages("a", "user")] == ["user"]
    asked = GUARD.messages("a", "assistant")
    assert [one["role"] for one in asked] == ["user", "assistant"] and asked[-1]["content"] == "a"
    assert len(GUARD.labels) == 9
