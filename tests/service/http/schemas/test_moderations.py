"""What the screens are asked: texts, or parts, of which there are not too many."""

from typing import Any

import pytest
from pydantic import ValidationError

from service.core.settings import Settings
from service.http.schemas.moderations import MAX_PARTS, MAX_PICTURES, ImagePart, ModerationRequest, TextPart

SETTINGS = Settings(max_question_chars=10)


def moderation(content: Any) -> ModerationRequest:
    return ModerationRequest.model_validate({"input": content}, context=SETTINGS)


def test_moderations_take_one_text_or_several_or_parts() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:"}}
    text = {"type": "text", "text": "t"}
    assert moderation("one").texts() == ["one"] and moderation("one").parts() == []
    assert moderation(["a", "b"]).texts() == ["a", "b"] and moderation(["a", "b"]).parts() == []
    mixed = moderation([text, picture])
    assert mixed.texts() == [] and [type(part) for part in mixed.parts()] == [TextPart, ImagePart]
    assert len(moderation([picture] * MAX_PICTURES).parts()) == MAX_PICTURES
    assert len(moderation(["t"] * MAX_PARTS).texts()) == MAX_PARTS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"type": "image_url", "image_url": {"url": ""}}] * (MAX_PICTURES + 1), "has 9 pictures, at most 8"),
        (["t"] * (MAX_PARTS + 1), "at most 32 items"),
        ([], "at least 1 item"),
        (["x" * 11], "has 11 characters"),
        ([{"type": "text", "text": "\0"}], "NUL"),
        (["a", {"type": "text", "text": "t"}], "valid"),
    ],
)
def test_moderations_have_limits(content: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        moderation(content)
