"""Fields that all requests in OpenAI's shapes have: what is honoured, taken or refused, and which search follows."""

from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from models.jobs import ChatGeneration
from service.core.errors import InvalidRequest
from service.core.settings import Settings
from service.http.schemas.openai.requests import (
    GenerationRequest,
    Refusal,
    must_be,
    no_audio,
    no_tool_choice,
    texts_alone,
)


class Example(GenerationRequest):
    refusals: ClassVar[dict[str, Refusal]] = {"logprobs": must_be(False), "tool_choice": no_tool_choice}


def read(**fields: Any) -> Example:
    return Example.model_validate({"model": "m", **fields}, context=Settings())


@pytest.mark.parametrize(
    ("fields", "search", "generation"),
    [
        ({}, "beam", {}),
        ({"num_beams": 5}, "beam", {"num_beams": 5}),
        ({"use_beam_search": True, "temperature": 1}, "beam", {}),
        ({"num_beams": 2, "top_p": 0.5}, "beam", {"num_beams": 2}),
        ({"temperature": 1, "top_k": -1}, "sample", {"do_sample": True, "num_beams": 1, "temperature": 1.0}),
        ({"top_p": 0.5, "top_k": 9}, "sample", {"do_sample": True, "num_beams": 1, "top_p": 0.5, "top_k": 9}),
        ({"num_beams": 1, "temperature": 1}, "sample", {"do_sample": True, "num_beams": 1, "temperature": 1.0}),
        ({"temperature": 0}, "greedy", {"num_beams": 1}),
        ({"top_p": 0.0, "temperature": 1}, "greedy", {"num_beams": 1}),
        ({"num_beams": 1}, "greedy", {"num_beams": 1}),
        ({"use_beam_search": False}, "greedy", {"num_beams": 1}),
        ({"temperature": None, "top_p": None, "length_penalty": 1}, "beam", {"length_penalty": 1.0}),
    ],
)
def test_the_search_follows_from_what_is_named(fields: Any, search: str, generation: dict[str, Any]) -> None:
    asked = read(**fields)
    assert asked.search == search and asked.generation(None) == ChatGeneration(**generation)


@pytest.mark.parametrize(("tokens", "taken"), [(1, 2), (64, 64), (4096, 4096), (100_000, 4096)])
def test_a_number_of_tokens_is_clamped(tokens: int, taken: int) -> None:
    assert read().generation(tokens).max_new_tokens == taken


@pytest.mark.parametrize(
    "fields", [{"use_beam_search": False, "num_beams": 2}, {"use_beam_search": True, "num_beams": 1}]
)
def test_searches_that_exclude_each_other_are_refused(fields: Any) -> None:
    with pytest.raises(ValidationError, match="use_beam_search"):
        read(**fields)


def test_whole_numbers_may_be_written_as_others_and_null_is_absent() -> None:
    asked = read(num_beams=3.0, seed=7.0, user=None, tools=[{}])
    assert (asked.num_beams, asked.seed, asked.ignored()) == (3, 7, ["tools"])


def test_what_plays_no_part_in_the_search_is_ignored() -> None:
    assert read(num_beams=2, temperature=1, top_k=3).ignored() == ["temperature", "top_k"]
    assert read(temperature=1, length_penalty=2).ignored() == ["length_penalty"]
    assert read(temperature=0, top_k=2).ignored() == ["top_k"]


def test_values_that_ask_for_what_cannot_be_given_are_refused_by_name() -> None:
    read(logprobs=False, tool_choice="auto").require_possible()
    for fields, message in (
        ({"logprobs": True}, "logprobs: must be False here, got true"),
        ({"tool_choice": "required"}, "tool_choice: must be auto or none: the model calls no tools, got 'required'"),
        ({"tool_choice": {"type": "function"}}, "tool_choice: .*got an object of 'type'"),
    ):
        with pytest.raises(InvalidRequest, match=message) as refused:
            read(**fields).require_possible()
        assert refused.value.param == next(iter(fields))


def test_text_is_all_that_is_answered() -> None:
    assert texts_alone(["text"]) is None and texts_alone(["text", "audio"]) and texts_alone(3)
    assert no_audio({"voice": "alloy"})
