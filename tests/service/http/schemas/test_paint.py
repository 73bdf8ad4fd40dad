"""Prompts: limits and what goes together. Over HTTP they are tested in test_bodies.py."""

from typing import Any

import pytest
from pydantic import ValidationError

from service.core.settings import Settings
from service.http.schemas.paint import PaintRequest
from service.http.schemas.requests import MAX_SEED

SETTINGS = Settings(max_prompt_chars=5)


def paint(**fields: Any) -> PaintRequest:
    return PaintRequest.model_validate({"prompt": "p", **fields}, context=SETTINGS)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": "x" * 6}, "has 6 characters, at most 5 are allowed"),
        ({"negative_prompt": "x" * 6}, "has 6 characters, at most 5 are allowed"),
        ({"n": 3, "candidates": 2}, "candidates must be at least n, got candidates 2 for n 3"),
        ({"partial_images": 1}, "partial_images needs stream, got partial_images 1 without it"),
        ({"n": True}, "valid integer"),
        ({"size": "0x64"}, "must be auto, or width x height"),
        ({"size": "5１2x64"}, "must be auto, or width x height"),
        ({"size": "64x64 "}, "must be auto, or width x height"),
        ({"size": "64x64\n"}, "must be auto, or width x height"),
        ({"guidance_scale": float("nan")}, "finite number"),
    ],
)
def test_what_does_not_go_is_told(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        paint(**fields)


def test_what_stands_at_a_limit_passes() -> None:
    asked = paint(prompt="x" * 5, n=4, candidates=4, stream=True, partial_images=3, seed=MAX_SEED)
    assert asked.candidates == 4 and asked.seed == MAX_SEED


def test_a_size_is_width_by_height() -> None:
    assert paint(size="640x32").side_px() == (640, 32)
    assert paint().side_px() is None and paint(size="auto").side_px() is None
