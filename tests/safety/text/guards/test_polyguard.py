"""PolyGuard's lines about the request and the response, of which one is asked for."""

import pytest

from safety.text.guards.adapter import UnreadableAnswer
from safety.text.guards.polyguard import PolyGuard

GUARD = PolyGuard()
BOTH = (
    "Harmful request: yes\nResponse refusal: no\nRequest safety violations: S1, S9\n"
    "Harmful response: no\nResponse safety violations: None"
)


def test_what_is_asked_for_counts() -> None:
    assert GUARD.read(BOTH, "user", True) == {"S1": 1.0, "S9": 1.0}
    assert GUARD.read(BOTH, "assistant", True) == {}
    turned = BOTH.replace("yes", "no", 1).replace("Harmful response: no", "Harmful response: yes")
    assert GUARD.read(turned, "user", True) == {} and GUARD.read(turned, "assistant", True) == {"": 1.0}


def test_an_answer_is_decided_as_soon_as_it_can_be() -> None:
    assert GUARD.read("Harmful request: no", "user", False) == {}
    assert GUARD.read("Harmful request: no", "assistant", False) is None
    assert GUARD.read("Harmful request: yes\nRequest safety violations: S1", "user", False) is None
    assert GUARD.read("Harmful request: yes\nRequest safety violations: S1\n", "user", False) == {"S1": 1.0}


@pytest.mark.parametrize("answer", ["", "yes", "Harmful request: maybe", "The request is harmless."])
def test_what_is_not_of_the_grammar_is_no_verdict(answer: str) -> None:
    with pytest.raises(UnreadableAnswer):
        GUARD.read(answer, "user", True)


def test_the_text_stands_in_its_own_place() -> None:
    system, said = GUARD.messages("a kite", "user")
    assert "S14" in system["content"] and said["content"] == "Human user:\na kite\n\nAI assistant:\n"
    assert GUARD.messages("a kite", "assistant")[1]["content"] == "Human user:\n\n\nAI assistant:\na kite"
