"""Bodies of chat completions: what they ask for, and what is refused by name."""

from typing import Any

import pytest
from pydantic import ValidationError

from service.core.errors import InvalidRequest
from service.core.settings import Settings
from service.http.schemas.openai.chat_completions import ChatCompletionRequest


def read(**fields: Any) -> ChatCompletionRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "q"}], **fields}
    return ChatCompletionRequest.model_validate(body, context=Settings())


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({}, 514),
        ({"max_tokens": 64.0}, 64),
        ({"max_completion_tokens": 20, "max_tokens": 9}, 20),
        ({"max_completion_tokens": None, "max_tokens": 9}, 9),
        ({"max_tokens": 1}, 2),
        ({"max_completion_tokens": 1_000_000}, 4096),
    ],
)
def test_either_limit_of_tokens_counts(fields: Any, tokens: int) -> None:
    assert read(**fields).generation_of_all().max_new_tokens == tokens


def test_both_limits_at_once_leave_one_without_effect() -> None:
    assert read(max_tokens=9, max_completion_tokens=20).ignored() == ["max_tokens"]
    assert read(max_tokens=9).ignored() == []


def test_stops_are_one_text_or_some() -> None:
    assert read(stop="a").stops() == ["a"] and read(stop=["a", "", "b"]).stops() == ["a", "b"]
    assert read().stops() == [] and read(stop=None).stops() == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stop": list("abcde")}, "at most 4"),
        ({"stop": "x" * 257}, "at most 256"),
        ({"messages": []}, "at least 1"),
        ({"n": 5}, "less than or equal to 4"),
        ({"max_tokens": 0}, "greater than or equal to 1"),
        ({"temperature": "hot"}, "valid number"),
        ({"moderation": {"policy": {"input": {"mode": "score"}}}}, "'block'"),
    ],
)
def test_what_is_out_of_bounds_is_refused(fields: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        read(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"tool_choice": "required"},
        {"function_call": {"name": "f"}},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {}}},
        {"logprobs": True},
        {"modalities": ["text", "audio"]},
        {"audio": {"voice": "alloy"}},
        {"n": 2},
        {"n": 2, "temperature": 0},
    ],
)
def test_what_cannot_be_given_is_refused_by_name(fields: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(**fields).require_possible()
    assert refused.value.param == next(iter(fields))


def test_what_asks_for_nothing_is_taken() -> None:
    asked = read(
        tool_choice="none",
        response_format={"type": "text"},
        logprobs=False,
        modalities=["text"],
        n=2,
        temperature=1,
        moderation={"model": "omni-moderation-latest"},
        audio=None,
    )
    asked.require_possible()
    assert asked.ignored() == ["tool_choice", "response_format", "logprobs", "modalities"]
