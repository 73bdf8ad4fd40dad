"""Prompts of words that no vocabulary holds, and paintings that would hold a worker far longer than usual."""

import httpx
import pytest

from tests.clients.asking import answered, refused


def paint(client: httpx.Client, **fields: object) -> httpx.Response:
    return client.post("/paint", json={"prompt": "a", **fields})


def test_a_prompt_of_unknown_words_alone_is_refused(client: httpx.Client) -> None:
    response = paint(client, prompt="🍎")
    assert "🍎" in refused(response, "prompt") and response.json()["error"]["code"] == "unknown_words"


def test_unknown_words_are_told(client: httpx.Client) -> None:
    assert answered(paint(client, prompt="a red 🍎"))["unknown_words"] == ["🍎"]
    assert answered(paint(client))["unknown_words"] == []


@pytest.mark.parametrize(
    "fields",
    [
        {"num_inference_steps": 500},
        {"candidates": 4, "num_inference_steps": 101},
        {"size": "256x256", "num_inference_steps": 50},
    ],
)
def test_work_beyond_eight_usual_paintings_is_refused_by_its_three_factors(
    client: httpx.Client, fields: dict[str, object]
) -> None:
    told = refused(paint(client, **fields), None)
    steps = fields["num_inference_steps"]
    sides = "256" if "size" in fields else "64"
    for part in (str(fields.get("candidates", 1)), sides, str(steps), "1638400"):
        assert part in told.replace(",", ""), told


def test_eight_usual_paintings_are_not(client: httpx.Client) -> None:
    answered(paint(client, candidates=4, num_inference_steps=100))
