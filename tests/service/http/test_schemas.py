"""Requests: defaults, limits and what goes together. Over HTTP they are tested in test_bodies.py."""

from typing import Any

import pytest
from pydantic import ValidationError

from models.jobs import ChatGeneration
from service.core.settings import Settings
from service.http.schemas import (
    MAX_PARTS,
    MAX_PICTURES,
    MAX_SEED,
    ChatRequest,
    ImagePart,
    ModerationRequest,
    PaintRequest,
    Request,
    TextPart,
)

SETTINGS = Settings(max_question_chars=10, max_prompt_chars=5)


def chat(**fields: Any) -> ChatRequest:
    return ChatRequest.model_validate({"question": "q", **fields}, context=SETTINGS)


def paint(**fields: Any) -> PaintRequest:
    return PaintRequest.model_validate({"prompt": "p", **fields}, context=SETTINGS)


def moderation(content: Any) -> ModerationRequest:
    return ModerationRequest.model_validate({"input": content}, context=SETTINGS)


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
    ("model", "fields", "message"),
    [
        (chat, {"do_sample": True, "num_beams": 3}, "do_sample goes with num_beams 1, got num_beams 3"),
        (chat, {"question": "x" * 11}, "has 11 characters, at most 10 are allowed"),
        (chat, {"question": "a\0"}, "contains a NUL character"),
        (chat, {"question": " \t\r\n"}, "nothing but blanks and control characters"),
        (chat, {"question": "\u200b\ufeff\u3000\x07"}, "nothing but blanks and control characters"),
        (chat, {"question": "\u3164\u2800"}, "nothing but blanks and control characters"),
        (chat, {"question": "\ud800"}, "surrogate|unicode"),
        (chat, {"seed": MAX_SEED + 1}, f"less than or equal to {MAX_SEED}"),
        (chat, {"colour": 1}, "Extra inputs are not permitted"),
        (paint, {"prompt": "x" * 6}, "has 6 characters, at most 5 are allowed"),
        (paint, {"negative_prompt": "x" * 6}, "has 6 characters, at most 5 are allowed"),
        (paint, {"n": 3, "candidates": 2}, "candidates must be at least n, got candidates 2 for n 3"),
        (paint, {"partial_images": 1}, "partial_images needs stream, got partial_images 1 without it"),
        (paint, {"n": True}, "valid integer"),
        (paint, {"size": "0x64"}, "pattern"),
        (paint, {"size": "5１2x64"}, "pattern"),
        (paint, {"size": "64x64 "}, "pattern"),
        (paint, {"size": "64x64\n"}, "pattern"),
        (paint, {"guidance_scale": float("nan")}, "finite number"),
    ],
)
def test_what_does_not_go_is_told(model: Any, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        model(**fields)


def test_any_visible_character_is_a_question() -> None:
    for question in (" ?", "\u200b猫", "🍎", "\u0301", "\n1\n"):
        assert chat(question=question).question == question


def test_what_stands_at_a_limit_passes() -> None:
    assert chat(question="x" * 10, seed=MAX_SEED, do_sample=True, num_beams=1).seed == MAX_SEED
    assert paint(prompt="x" * 5, n=4, candidates=4, stream=True, partial_images=3).candidates == 4


def test_a_size_is_width_by_height() -> None:
    assert paint(size="640x32").side_px() == (640, 32)
    assert paint().side_px() is None and paint(size="auto").side_px() is None


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


def test_every_request_is_strict_and_closed() -> None:
    for model in (ChatRequest, PaintRequest, ModerationRequest, TextPart, ImagePart):
        assert issubclass(model, Request)
        assert model.model_config["extra"] == "forbid" and model.model_config["strict"] is True


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


@pytest.mark.parametrize("value", [64.0, 6.4e1])
def test_whole_numbers_are_taken_as_such(value: float) -> None:
    assert chat(max_new_tokens=value).max_new_tokens == 64 and isinstance(chat(seed=value).seed, int)


@pytest.mark.parametrize("value", [64.5, 1e99, -0.5, "64", True])
def test_others_are_not(value: object) -> None:
    with pytest.raises(ValidationError):
        chat(max_new_tokens=value)
