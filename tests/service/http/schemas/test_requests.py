"""What all requests share: closed, strict where a number could be guessed, null as absence."""

import pytest
from pydantic import ValidationError

from service.core.settings import Settings
from service.http.schemas.a1111 import OptionsRequest, Txt2ImgRequest
from service.http.schemas.chat import ChatRequest
from service.http.schemas.moderations import ImagePart, ModerationRequest, TextPart
from service.http.schemas.openai.images import ImageGenerationRequest
from service.http.schemas.paint import PaintRequest
from service.http.schemas.requests import MAX_SEED, OpenRequest, Request, integers, plain_text


def chat(**fields: object) -> ChatRequest:
    return ChatRequest.model_validate({"question": "q", **fields}, context=Settings())


def test_every_request_is_strict_and_closed() -> None:
    for model in (ChatRequest, PaintRequest, TextPart, ImagePart):
        assert issubclass(model, Request)
        assert model.model_config["extra"] == "forbid" and model.model_config["strict"] is True


def test_requests_in_others_shapes_are_strict_in_what_they_know_and_name_the_rest() -> None:
    for model in (ModerationRequest, ImageGenerationRequest, Txt2ImgRequest, OptionsRequest):
        assert issubclass(model, OpenRequest)
        assert model.model_config["extra"] == "allow" and model.model_config["strict"] is True
    asked = OptionsRequest.model_validate({"z": 1, "a": [2], "null": None, "sd_model_checkpoint": "m"})
    assert asked.ignored() == ["z", "a"]


@pytest.mark.parametrize("value", [64.0, 6.4e1])
def test_whole_numbers_are_taken_as_such(value: float) -> None:
    assert chat(max_new_tokens=value).max_new_tokens == 64 and isinstance(chat(seed=value).seed, int)


@pytest.mark.parametrize("value", [64.5, 1e99, -0.5, "64", True, float(MAX_SEED + 1)])
def test_others_are_not(value: object) -> None:
    with pytest.raises(ValidationError):
        chat(max_new_tokens=value)


def test_null_is_absent() -> None:
    assert chat(max_new_tokens=None, seed=None, image=None) == chat()


def test_the_fields_of_whole_numbers_are_known() -> None:
    assert integers(ChatRequest) == {"max_new_tokens", "num_beams", "top_k", "repetition_window", "seed"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("abc", "has 3 characters, at most 2 are allowed"),
        ("a\0", "contains a NUL character"),
        ("\ud800", "contains a surrogate that is half of no character"),
    ],
)
def test_a_text_that_is_none_is_told_why(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plain_text(text, 2)
    assert plain_text("猫🍎", 2) == "猫🍎"
