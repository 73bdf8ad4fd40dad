"""POST /v1/responses over HTTP, with a real worker behind it, on conversations that are kept."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.service.web import Service, assert_error, encoded, serving, sse_events

pytestmark = pytest.mark.asyncio(loop_scope="module")

RED, BLUE = encoded(colour=(255, 0, 0)), encoded(colour=(0, 0, 255))


def picture(data: str, question: str = "echo x") -> list[dict[str, Any]]:
    parts = [{"type": "input_image", "image_url": f"data:image/png;base64,{data}", "detail": "auto"}]
    return [{"role": "user", "content": [*parts, {"type": "input_text", "text": question}]}]


async def post(service: Service, asked: Any, **fields: Any) -> httpx.Response:
    return await service.client.post("/v1/responses", json={"model": "gpt-4o", "input": asked, **fields})


async def respond(service: Service, asked: Any, **fields: Any) -> dict[str, Any]:
    response = await post(service, asked, **fields)
    assert response.status_code == 200, response.text
    whole: dict[str, Any] = response.json()
    return whole


async def turns_of(service: Service, whole: dict[str, Any]) -> list[str]:
    kept = (await service.client.get(f"/conversations/{whole['viscpm']['conversation_id']}")).json()
    return [turn["question"] for turn in kept["turns"]]


async def test_a_response_has_openais_shape_and_is_kept(module_service: Service) -> None:
    whole = await respond(module_service, picture(RED, "echo 你好"), max_output_tokens=20)
    assert (whole["object"], whole["status"], whole["model"]) == ("response", "completed", "gpt-4o")
    [message] = whole["output"]
    assert message["type"] == "message" and message["role"] == "assistant" and message["id"].startswith("msg_")
    assert message["content"] == [{"type": "output_text", "text": "你好", "annotations": [], "logprobs": []}]
    assert whole["usage"]["input_tokens_details"] == {"image_tokens": 0, "cached_tokens": 0, "cache_write_tokens": 0}
    assert whole["max_output_tokens"] == 20 and whole["store"] is True and whole["viscpm"]["search"] == "beam"
    assert await turns_of(module_service, whole) == ["echo 你好"]


async def test_a_response_is_gone_on_with_by_its_id(module_service: Service) -> None:
    first = await respond(module_service, picture(RED, "echo one"))
    second = await respond(module_service, "echo two", previous_response_id=first["id"], instructions="be kind")
    assert second["previous_response_id"] == first["id"] != second["id"]
    assert second["viscpm"]["image"] is True and second["viscpm"]["vision_cached"] is True
    assert second["viscpm"]["conversation_id"] == first["viscpm"]["conversation_id"]
    third = await respond(module_service, picture(RED, "echo three"), previous_response_id=second["id"])
    assert await turns_of(module_service, third) == ["echo one", "be kind\necho two", "echo three"]


async def test_what_came_after_an_earlier_response_stays_as_it_is(module_service: Service) -> None:
    first = await respond(module_service, picture(RED, "echo one"))
    second = await respond(module_service, "echo two", previous_response_id=first["id"])
    other = await respond(module_service, "echo other", previous_response_id=first["id"])
    assert other["viscpm"]["image"] is True and other["viscpm"]["vision_cached"] is True
    assert other["viscpm"]["conversation_id"] != first["viscpm"]["conversation_id"]
    assert await turns_of(module_service, other) == ["echo other"]
    assert await turns_of(module_service, second) == ["echo one", "echo two"]
    more = await respond(module_service, "echo more", previous_response_id=other["id"])
    assert await turns_of(module_service, more) == ["echo other", "echo more"]


async def test_another_picture_begins_anew_and_is_told(module_service: Service) -> None:
    first = await respond(module_service, picture(RED, "echo one"))
    second = await respond(module_service, picture(BLUE, "echo two"), previous_response_id=first["id"])
    assert second["viscpm"]["pictures_ignored"] == 1 and await turns_of(module_service, second) == ["echo two"]
    settings = module_service.state.settings.model_copy(update={"strict_pictures": True})
    async with serving(settings) as strict:
        await strict.ready()
        refused = await post(strict, picture(BLUE, "echo two"), previous_response_id=first["id"])
        assert_error(refused, 400, "invalid_request", "input.0.content.0.image_url")


async def test_what_is_not_stored_leads_nowhere(module_service: Service) -> None:
    first = await respond(module_service, "echo one")
    before = await module_service.redis.keys("{viscpm}:conversation:*")
    loose = await respond(module_service, "echo two", previous_response_id=first["id"], store=False)
    assert loose["store"] is False and "conversation_id" not in loose["viscpm"]
    assert sorted(await module_service.redis.keys("{viscpm}:conversation:*")) == sorted(before)
    for unknown in (loose["id"], "resp_x_1", "resp_x", first["id"].removesuffix("1") + "2"):
        refused = await post(module_service, "echo x", previous_response_id=unknown)
        assert_error(refused, 404, "conversation_not_found", "previous_response_id")


async def test_a_talk_that_is_brought_along_is_kept_with_its_first_response(module_service: Service) -> None:
    talk = [
        {"role": "user", "content": "echo one"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "one"}]},
        {"role": "user", "content": "echo two"},
    ]
    first = await respond(module_service, talk)
    second = await respond(module_service, "echo three", previous_response_id=first["id"])
    assert await turns_of(module_service, second) == ["echo two", "echo three"]
    kept = await module_service.state.conversations.get("default", second["viscpm"]["conversation_id"])
    assert [turn.question for turn in kept.history()] == ["echo one", "echo two", "echo three"]


async def test_two_responses_to_one_at_once_are_both_answered_or_told_to_ask_again(module_service: Service) -> None:
    first = await respond(module_service, "echo one")
    asked = [post(module_service, "stream 40", previous_response_id=first["id"]) for _ in range(2)]
    answers = await asyncio.gather(*asked)
    assert sorted(answer.status_code for answer in answers) in ([200, 200], [200, 409])
    for answer in answers:
        if answer.status_code == 409:
            assert_error(answer, 409, "conversation_busy", "previous_response_id")


async def test_a_stream_has_typed_events_in_order(module_service: Service) -> None:
    response = await post(module_service, picture(RED, "stream 2"), stream=True, temperature=1, seed=4)
    events = sse_events(response.text)
    assert events[-1] == ("", "[DONE]")
    assert [name for name, _ in events[:-1]] == [data["type"] for _, data in events[:-1]]
    assert [data["sequence_number"] for _, data in events[:-1]] == list(range(10))
    assert [name.removeprefix("response.") for name, _ in events[:-1]] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    whole = events[-2][1]["response"]
    assert whole["output"][0]["content"][0]["text"] == "w0 w1 " and whole["viscpm"]["seed"] == 4
    assert events[0][1]["response"]["id"] == whole["id"] and events[0][1]["response"]["status"] == "in_progress"
    assert (await respond(module_service, "echo x", previous_response_id=whole["id"]))["viscpm"]["image"] is True


async def test_an_error_after_the_200_is_data_before_done(module_service: Service) -> None:
    events = sse_events((await post(module_service, "raise", stream=True)).text)
    assert events[-1][1] == "[DONE]" and events[-2][1]["error"]["type"] == "server_error"


async def test_what_cannot_be_done_is_refused_by_name(module_service: Service) -> None:
    for fields, param in (
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"text": {"format": {"type": "json_schema"}}}, "text"),
        ({"tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}, "input.0.content.0"),
    ):
        asked = fields.pop("input", "echo x")
        assert_error(await post(module_service, asked, **fields), 400, "invalid_request", param)
    taken = await post(module_service, "echo x", tools=[{"type": "web_search"}], reasoning={"effort": "low"})
    assert taken.headers["x-ignored-parameters"] == "tools, reasoning"
