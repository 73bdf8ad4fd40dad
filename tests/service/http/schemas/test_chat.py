"""Questions: defaults, limits and what goes together. Over HTTP they are tested in test_bodies.py."""

from typing import Any

import pytest
from pydantic import ValidationError

from models.jobs import ChatGeneration
from service.core.settings import Settings
from service.http.schemas.chat import ChatRequest
from service.http.schemas.requests import MAX_SEED

SETTINGS = Settings(max_question_chars=10)


def chat(**fields: Any) -> ChatRequest:
    return ChatRequest.model_validate({"question": "q", **fields}, context=SETTINGS)


def test_a_bare_question_is_searched_for_as_the_engine_would_by_itself() -> None:
    assert chat().generation() == ChatGeneration()


def test_generation_takes_over_every_field() -> None:
    given = {
        "max_new_tokens": 9,
        "temperature": 0.5,
        "top_k": 3,
        "top_p": 0.25,
        "repetition_penalty": 1.5,
        "repetition_window": 7,
        "length_penalty": -1.0,
    }
    generation = chat(**given, do_sample=True).generation()
    assert generation == ChatGeneration(**given, num_beams=1, do_sample=True)
    assert chat(num_beams=5).generation().num_beams == 5


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"do_sample": True, "num_beams": 3}, "do_sample goes with num_beams 1, got num_beams 3"),
        ({"question": "x" * 11}, "has 11 characters, at most 10 are allowed"),
        ({"question": "a\0"}, "contains a NUL character"),
        ({"question": " \t\r\n"}, "nothing but blanks and control characters"),
        ({"question": "\u200b\ufeff\u3000\x07"}, "nothing but blanks and control characters"),
        ({"question": "\u3164\u2800"}, "nothing but blanks and control characters"),
        ({"question": "\ud800"}, "surrogate|unicode"),
        ({"seed": MAX_SEED + 1}, f"less than or equal to {MAX_SEED}"),
        ({"colour": 1}, "Extra inputs are not permitted"),
    ],
)
def test_what_does_not_go_is_told(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        chat(**fields)


def test_any_visible_character_is_a_question() -> None:
    for question in (" ?", "\u200b猫", "🍎", "\u0301", "\n1\n"):
        assert chat(question=question).question == question


def test_what_stands_at_a_limit_passes() -> None:
    assert chat(question="x" * 10, seed=MAX_SEED, do_sample=True, num_beams=1).seed == MAX_SEED


@pytest.mark.parametrize("fields", [{"temperature": 0}, {"top_p": 0}, {"temperature": 0.0, "top_p": 0, "top_k": -1}])
def test_sampling_without_chance_is_greedy(fields: dict[str, Any]) -> None:
    assert chat(do_sample=True, **fields).generation() == ChatGeneration(num_beams=1, do_sample=False)


def test_minus_one_of_top_k_is_off() -> None:
    assert chat(do_sample=True, top_k=-1).generation() == chat(do_sample=True, top_k=0).generation()


def test_what_plays_no_part_is_not_judged() -> None:
    odd = {"temperature": 0, "top_p": 7.5, "top_k": 10**30}
    assert chat(**odd).generation() == ChatGeneration()
    assert chat(num_beams=1, length_penalty=99).num_beams == 1
    with pytest.raises(ValidationError, match="must be from -10 to 10"):
        chat(num_beams=2, length_penalty=99)
