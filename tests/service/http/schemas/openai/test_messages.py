"""Messages in all the shapes that clients give them, and those that are refused by name."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from service.http.error_handlers import from_validation
from service.http.schemas.openai.messages import ChatMessages, Message, told

MESSAGES = TypeAdapter(ChatMessages)


def read(*messages: dict[str, Any]) -> list[Message]:
    return list(told(MESSAGES.validate_python(list(messages), strict=True)))


def test_texts_and_parts_say_the_same() -> None:
    assert read(
        {"role": "developer", "content": [{"type": "text", "text": "be kind"}]},
        {"role": "user", "content": "one", "name": "ann", "id": 3},
        {"role": "assistant", "content": None, "tool_calls": [{}], "reasoning_content": "hm"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}], "refusal": None},
    ) == [
        Message("system", "be kind", "messages.0"),
        Message("user", "one", "messages.1"),
        Message("assistant", "", "messages.2"),
        Message("assistant", "no", "messages.3"),
    ]


def test_a_picture_is_an_object_or_a_text() -> None:
    parts = [
        {"type": "text", "text": "a", "cache_control": {}},
        {"type": "image_url", "image_url": "AAAA"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,BBBB", "detail": "low"}, "uuid": "u"},
        {"type": "text", "text": "b"},
    ]
    pictures = [
        ("AAAA", "messages.0.content.1.image_url"),
        ("data:image/png;base64,BBBB", "messages.0.content.2.image_url"),
    ]
    assert read({"role": "user", "content": parts}) == [Message("user", "a\nb", "messages.0", pictures)]


@pytest.mark.parametrize(
    ("message", "param", "told_of"),
    [
        ({"role": "tool", "content": "x"}, "0", "'system', 'developer', 'user', 'assistant', got 'tool'"),
        ({"role": "function", "content": "x"}, "0", "got 'function'"),
        ({"role": "user", "content": [{"type": "input_audio"}]}, "0.content.0", "got 'input_audio'"),
        ({"role": "assistant", "content": [{"type": "image_url", "image_url": "x"}]}, "0.content.0", "got 'image_url'"),
        ({"role": "user"}, "0.content", "required"),
    ],
)
def test_what_cannot_be_taken_is_refused_by_name(message: dict[str, Any], param: str, told_of: str) -> None:
    with pytest.raises(ValidationError) as refused:
        read(message)
    error = from_validation(refused.value)
    assert error.param == param and told_of in error.message


def test_a_talk_of_too_many_parts_is_refused_before_any_of_them_is_looked_at() -> None:
    for content in ([{}] * 1500, [{"type": "text", "text": "a"}] * 1500):
        with pytest.raises(ValidationError) as refused:
            read({"role": "user", "content": content}, {"role": "user", "content": content})
        assert refused.value.error_count() == 1 and "has 3000 parts, at most 2048 are read" in str(refused.value)
