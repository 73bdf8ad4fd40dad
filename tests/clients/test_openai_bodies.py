"""Each client's default body is answered with 200 and with the parts that this client reads."""

import json
from typing import Any

import httpx
import pytest

from tests.clients.openai_bodies import COMPLETIONS, RESPONSES


def data_lines(response: httpx.Response) -> list[dict[str, Any]]:
    """What a client reads that knows no other lines."""
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in response.text.split("\n") if line and not line.startswith(":")]
    assert all(line.startswith("data: ") for line in lines), response.text
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


@pytest.mark.parametrize("name", COMPLETIONS)
def test_a_completions_body_is_answered(client: httpx.Client, name: str) -> None:
    body = COMPLETIONS[name]
    response = client.post("/v1/chat/completions", json=body, headers={"authorization": "Bearer sk-none"})
    assert response.status_code == 200, response.text
    if not body.get("stream"):
        whole = response.json()
        assert whole["object"] == "chat.completion" and whole["model"] == body["model"]
        assert isinstance(whole["choices"][0]["message"]["content"], str) and whole.get("error") is None
        assert whole["usage"]["total_tokens"] >= whole["usage"]["prompt_tokens"] > 0
        return
    chunks = data_lines(response)
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert all(chunk["object"] == "chat.completion.chunk" and not chunk.get("error") for chunk in chunks)
    assert [one["finish_reason"] for chunk in chunks for one in chunk["choices"] if one["finish_reason"]] == ["stop"]
    if body.get("stream_options", {}).get("include_usage"):
        assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["total_tokens"] > 0


@pytest.mark.parametrize("name", RESPONSES)
def test_a_responses_body_is_answered(client: httpx.Client, name: str) -> None:
    body = RESPONSES[name]
    response = client.post("/v1/responses", json=body)
    assert response.status_code == 200, response.text
    if body.get("stream"):
        completed = response.text.partition("event: response.completed\ndata: ")[2].partition("\n")[0]
        assert json.loads(completed)["response"]["usage"]["total_tokens"] > 0
    else:
        whole = response.json()
        assert whole["output"][0]["content"][0]["type"] == "output_text" and whole["error"] is None
        assert whole["usage"]["total_tokens"] >= whole["usage"]["input_tokens"] > 0


def test_what_clients_choose_by_is_listed(client: httpx.Client) -> None:
    """By all of them before anything else, with whatever key; LobeHub takes `created` for a number."""
    answer = client.get("/v1/models", headers={"authorization": "Bearer sk-none"}).json()
    listed = answer["data"]
    assert answer["object"] == "list" and all(isinstance(model["created"], int) for model in listed)
    assert all(model["object"] == "model" and model["owned_by"] for model in listed)
    assert any("vision" in model["id"] for model in listed) and any(model["id"] == "dall-e-3" for model in listed)
