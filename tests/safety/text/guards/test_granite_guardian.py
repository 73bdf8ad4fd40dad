"""Granite Guardian's yes or no, as its releases write it."""

import pytest

from safety.text.guards.adapter import UnreadableAnswer
from safety.text.guards.granite_guardian import GraniteGuardian

GUARD = GraniteGuardian()


@pytest.mark.parametrize(
    ("answer", "labels"),
    [
        ("Yes", {"Yes": 1.0}),
        ("No\n<confidence> High </confidence>", {}),
        ("<score> yes </score>", {"Yes": 1.0}),
        ("<think>\n</think>\n<score> no </score>", {}),
        ("<think>Yes, this is bad</think><score>no</score>", {}),
    ],
)
def test_a_whole_answer(answer: str, labels: dict[str, float]) -> None:
    assert GUARD.read(answer, "user", True) == labels == GUARD.read(answer, "user", False)


@pytest.mark.parametrize("answer", ["", "Noise", "<score> perhaps </score>", "Failed", "<think>Yes"])
def test_what_is_not_of_the_grammar_is_no_verdict(answer: str) -> None:
    with pytest.raises(UnreadableAnswer):
        GUARD.read(answer, "user", True)
    assert GUARD.read(answer, "user", False) is None


def test_an_answer_is_one_message() -> None:
    assert GUARD.messages("a", "assistant") == [{"role": "assistant", "content": "a"}]
    assert GUARD.template_arguments("user") == {}
