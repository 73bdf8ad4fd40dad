"""Fields as generators of JSON write them, seeds, zeros of sampling, blanks, and what messages and answers say."""

import base64
import io
import json
from typing import Any

import httpx
import pytest
from PIL import Image

from service.http.schemas.chat import ChatRequest
from service.http.schemas.paint import PaintRequest
from service.http.schemas.requests import MAX_SEED
from tests.clients.asking import JSON, answered, ask, refused
from tests.clients.conftest import MAX_TURNS

CHAT_FIELDS = sorted(set(ChatRequest.model_fields) - {"question"})
PAINT_FIELDS = sorted(set(PaintRequest.model_fields) - {"prompt"})


@pytest.mark.parametrize("field", CHAT_FIELDS)
def test_null_is_absent_in_every_field_of_chat(client: httpx.Client, field: str) -> None:
    assert answered(ask(client, **{field: None}))["answer"] == "x"


@pytest.mark.parametrize("field", PAINT_FIELDS)
def test_null_is_absent_in_every_field_of_paint(client: httpx.Client, field: str) -> None:
    answer = answered(client.post("/paint", json={"prompt": "a", field: None}))
    assert len(answer["data"]) == 1 and (answer["size"], answer["output_format"]) == ("64x64", "png")


@pytest.mark.parametrize("written", ["64", "64.0", "6.4e1", "6400e-2"])
def test_a_whole_number_however_it_is_written(client: httpx.Client, written: str) -> None:
    body = f'{{"question": "echo x", "max_new_tokens": {written}, "seed": {written}, "top_k": {written}}}'
    assert answered(client.post("/chat", content=body, headers=JSON))["seed"] == 64
    body = f'{{"prompt": "a", "num_inference_steps": {written}, "seed": {written}}}'
    assert answered(client.post("/paint", content=body, headers=JSON))["data"][0]["seed"] == 64


@pytest.mark.parametrize("written", ["64.5", "1e400", '"64"', "true"])
def test_what_is_no_whole_number_is_refused(client: httpx.Client, written: str) -> None:
    body = f'{{"question": "echo x", "max_new_tokens": {written}}}'
    told = refused(client.post("/chat", content=body, headers=JSON), "max_new_tokens")
    assert told.startswith("max_new_tokens: Input should be a valid integer, got ")


def painted_pixels(answer: dict[str, Any], index: int) -> bytes:
    return Image.open(io.BytesIO(base64.b64decode(answer["data"][index]["b64_json"]))).convert("RGB").tobytes()


@pytest.mark.parametrize("candidates", [1, 4])
def test_no_seed_is_told_that_is_refused(client: httpx.Client, candidates: int) -> None:
    last = MAX_SEED - candidates + 1
    painted = {"prompt": "a", "n": candidates, "candidates": candidates}
    answer = answered(client.post("/paint", json={**painted, "seed": last}))
    seeds = [picture["seed"] for picture in answer["data"]]
    assert seeds == list(range(last, MAX_SEED + 1))
    again = answered(client.post("/paint", json={"prompt": "a", "candidates": 1, "seed": seeds[-1]}))
    assert painted_pixels(again, 0) == painted_pixels(answer, -1), "but for their labels"
    refused(client.post("/paint", json={**painted, "seed": last + 1}), "seed")


SAMPLING: dict[str, dict[str, Any]] = {
    "temperature 0": {"do_sample": True, "temperature": 0},
    "temperature 0.0 and top_p 0": {"do_sample": True, "temperature": 0.0, "top_p": 0},
    "top_p 0": {"do_sample": True, "top_p": 0},
    "top_k -1": {"do_sample": True, "top_k": -1},
    "top_k 0": {"do_sample": True, "top_k": 0},
    "what plays no part": {"num_beams": 3, "temperature": -5, "top_p": 7, "top_k": -9},
    "a penalty of no part": {"do_sample": True, "length_penalty": 99},
}


@pytest.mark.parametrize("name", SAMPLING)
def test_zeros_of_sampling_are_greedy_and_what_plays_no_part_is_not_judged(client: httpx.Client, name: str) -> None:
    assert answered(ask(client, **SAMPLING[name]))["answer"] == "x"


@pytest.mark.parametrize("field", ["temperature", "top_k", "top_p"])
def test_what_plays_a_part_is_judged(client: httpx.Client, field: str) -> None:
    assert "must be from " in refused(ask(client, do_sample=True, **{field: -2}), field)


@pytest.mark.parametrize("question", [" ", "\t\n", "\u200b", "\u3000\u2003", "\x01\x7f", "\u2800", "\ufeff\u200d"])
def test_a_question_of_nothing_to_be_seen_is_refused(client: httpx.Client, question: str) -> None:
    assert "blanks and control characters" in refused(ask(client, question=question), "question")


def test_a_lost_picture_shows_in_the_answer(client: httpx.Client) -> None:
    answer = answered(ask(client))
    assert (answer["image"], answer["usage"]["image_tokens"]) == (False, 0)


def test_turns_that_are_gone_are_counted_and_strict_length_refuses(client: httpx.Client) -> None:
    talk = answered(ask(client))["conversation_id"]
    for turn in range(2, MAX_TURNS + 3):
        answer = answered(ask(client, conversation_id=talk, question=f"echo {turn}"))
        assert answer["dropped_turns"] == max(0, turn - 1 - MAX_TURNS), "those that the model did not see"
        kept = client.get(f"/conversations/{talk}").json()
        assert len(kept["turns"]) == min(turn, MAX_TURNS)
        assert kept["dropped_turns"] == max(0, turn - MAX_TURNS)
    told = refused(ask(client, conversation_id=talk, strict_length=True), "conversation_id")
    assert f"the talk has {MAX_TURNS + 3} turns with this one, and {MAX_TURNS} are kept" in told


MESSAGES: dict[str, tuple[str, Any, str | None, str]] = {
    "an object for text": ("/chat", {"question": {"a": 1}}, "question", "valid string, got an object of 'a'"),
    "a list for a picture": ("/chat", {"question": "echo x", "image": [1, 2]}, "image", "got a list of 2"),
    "text for a switch": ("/chat", {"question": "echo x", "stream": "yes"}, "stream", "got 'yes'"),
    "a list for a body": ("/chat", [1], None, "body: Input should be an object, got a list of 1"),
    "another kind": ("/paint", {"prompt": "a", "rerank": "x"}, "rerank", "must be true, false or 'auto', got 'x'"),
    "a part of none": (
        "/v1/moderations",
        {"input": [1]},
        "input",
        "input: must be a text, a list of texts or a list of parts, got a list of 1",
    ),
    "an unknown field": ("/paint", {"prompt": "a", "colour": 1}, "colour", "colour: unknown field"),
    "no JSON": ("/chat", b"{", None, "Invalid JSON: EOF"),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_says_what_was_wrong_and_what_was_got(client: httpx.Client, name: str) -> None:
    path, body, param, message = MESSAGES[name]
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    told = refused(client.post(path, content=content, headers=JSON), param)
    assert message in told and not {"dict", "OSError", "Traceback"} & set(told.replace("(", " ").split())
