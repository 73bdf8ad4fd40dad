"""ShieldGemma's Yes or No, and the guidelines that it is asked about."""

import pytest

from safety.text.guards.adapter import UnreadableAnswer
from safety.text.guards.shieldgemma import ShieldGemma

GUARD = ShieldGemma()


def test_its_first_word_decides() -> None:
    assert GUARD.read("Yes", "user", False) == {"Yes": 1.0}
    assert GUARD.read(" No, it does not", "user", False) == {}
    assert GUARD.read("", "user", False) is None


@pytest.mark.parametrize("answer", ["", "Yesterday", "Nobody", "maybe", "yes"])
def test_what_is_not_of_the_grammar_is_no_verdict(answer: str) -> None:
    with pytest.raises(UnreadableAnswer):
        GUARD.read(answer, "user", True)


def test_the_four_guidelines_speak_of_who_said_it() -> None:
    asked, answered = (GUARD.template_arguments(role)["guideline"] for role in ("user", "assistant"))
    assert asked.count("* ") == answered.count("* ") == 4
    assert asked.count("The prompt shall not") == 4 and answered.count("The chatbot shall not") == 4
    assert [one["role"] for one in GUARD.messages("a", "assistant")] == ["user", "assistant"]
