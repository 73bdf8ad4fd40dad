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


async def test_a_response_is_told_again_by_its_id(module_service: Service) -> None:
    client = module_service.client
    first = await respond(module_service, picture(RED, "echo one"), instructions="be kind", max_output_tokens=20)
    events = sse_events((await post(module_service, "stream 3", previous_response_id=first["id"], stream=True)).text)
    second = events[-2][1]["response"]
    for whole in (first, second):
        again = await client.get(f"/v1/responses/{whole['id']}")
        assert (again.status_code, again.json()) == (200, whole)
    unstored = await respond(module_service, "echo x", store=False)
    for missing in (unstored["id"], first["id"][:-1] + "9", "resp_x", "x"):
        for method in ("GET", "DELETE"):
            assert_error(
                await client.request(method, f"/v1/responses/{missing}"), 404, "response_not_found", "response_id"
            )
    streamed = await client.get(f"/v1/responses/{first['id']}?stream=true")
    assert_error(streamed, 400, "invalid_request", "stream")
    conversation = f"/conversations/{first['viscpm']['conversation_id']}"
    regenerated = await client.post(f"{conversation}/regenerate", json={})
    assert regenerated.status_code == 200
    assert_error(await client.get(f"/v1/responses/{second['id']}"), 404, "response_not_found", "response_id")
    branch = (await client.post(f"{conversation}/branch", json={})).json()["id"]
    assert (await client.get(f"/v1/responses/resp_{branch.removeprefix('conv-')}_1")).status_code == 404


@pytest.mark.slow
async def test_a_deleted_response_is_gone_and_the_others_stay(module_service: Service) -> None:
    client = module_service.client
    ids: list[str] = []
    for number in range(3):
        more = {"previous_response_id": ids[-1]} if ids else {}
        whole = await respond(module_service, picture(RED, f"echo {number}"), **more)
        ids.append(whole["id"])
    conversation = whole["viscpm"]["conversation_id"]
    [job] = (await client.get(f"/v1/responses/{ids[1]}")).json()["viscpm"]["jobs"]
    deleted = await client.delete(f"/v1/responses/{ids[1]}")
    assert (deleted.status_code, deleted.json()) == (200, {"id": ids[1], "object": "response", "deleted": True})
    for method in ("GET", "DELETE"):
        assert_error(await client.request(method, f"/v1/responses/{ids[1]}"), 404, "response_not_found", "response_id")
    assert (await client.get(f"/jobs/{job}")).status_code == 404
    lost = await post(module_service, "echo x", previous_response_id=ids[1])
    assert_error(lost, 404, "conversation_not_found", "previous_response_id")
    stored = await module_service.redis.lrange(f"{{viscpm}}:conversation:default:{conversation}:turns", 0, -1)
    assert len(stored) == 3 and b"echo 1" not in b"".join(stored) and b"echo 2" in stored[2]
    third = await client.get(f"/v1/responses/{ids[2]}")
    assert third.json()["output"][0]["content"][0]["text"] == "2"
    fourth = await respond(module_service, "echo 3", previous_response_id=ids[2])
    assert await turns_of(module_service, fourth) == ["echo 0", "echo 2", "echo 3"]
    exported = (await client.get(f"/conversations/{conversation}/export")).json()
    assert [turn["question"] for turn in exported["turns"]] == ["echo 0", "echo 2", "echo 3"]
    branched = await respond(module_service, "echo 4", previous_response_id=ids[0])
    assert await turns_of(module_service, branched) == ["echo 4"]

    for gone in (ids[0], ids[2], fourth["id"]):
        assert (await client.get(f"/conversations/{conversation}")).status_code == 200
        assert (await client.delete(f"/v1/responses/{gone}")).status_code == 200
    assert (await client.get(f"/conversations/{conversation}")).status_code == 404, "with the last one, the picture too"
    assert await module_service.redis.keys(f"*{conversation}*") == []
    assert (await client.get(f"/v1/responses/{branched['id']}")).status_code == 200


@pytest.mark.slow
async def test_a_response_that_goes_on_meanwhile_keeps_the_conversation(module_service: Service) -> None:
    first = await respond(module_service, picture(RED, "echo one"))
    going_on = asyncio.create_task(post(module_service, "stream 200", previous_response_id=first["id"]))
    await asyncio.sleep(0.15)
    assert (await module_service.client.delete(f"/v1/responses/{first['id']}")).status_code == 200
    second = (await going_on).json()
    assert await turns_of(module_service, second) == ["stream 200"]
    assert (await module_service.client.get(f"/v1/responses/{second['id']}")).json() == second


@pytest.mark.slow
async def test_a_response_with_an_idempotency_key_is_executed_once(module_service: Service) -> None:
    async def ask(key: str, asked: Any = "echo x", **fields: Any) -> httpx.Response:
        body = {"model": "gpt-4o", "input": asked, **fields}
        headers = {"Idempotency-Key": f"response {key}"}
        return await module_service.client.post("/v1/responses", json=body, headers=headers)

    for key, fields in (("a", {}), ("b", {"store": False}), ("c", {"temperature": 1, "metadata": {"a": "b"}})):
        first, again = await ask(key, **fields), await ask(key, **fields)
        assert first.status_code == 200 and again.json() == first.json()
        assert "idempotent-replayed" not in first.headers and again.headers["idempotent-replayed"] == "true"
        assert first.headers.get("x-ignored-parameters") == again.headers.get("x-ignored-parameters")
    kept = (await ask("a")).json()
    assert await turns_of(module_service, kept) == ["echo x"], "one turn of one conversation"
    second = await ask("d", "echo y", previous_response_id=kept["id"])
    assert (await ask("d", "echo y", previous_response_id=kept["id"])).json() == second.json()
    assert await turns_of(module_service, kept) == ["echo x", "echo y"]
    assert_error(await ask("a", "echo z"), 422, "idempotency_key_reused", "Idempotency-Key")
    streams = [sse_events((await ask("e", "stream 3", stream=True)).text) for _ in range(2)]
    assert streams[0][-2][1]["response"] == streams[1][-2][1]["response"]
    assert [event for event, _ in streams[0]][:2] == ["response.created", "response.in_progress"]
    running = asyncio.create_task(ask("f", "stream 300"))
    await asyncio.sleep(0.2)
    early = await ask("f", "stream 300")
    assert_error(early, 409, "idempotency_key_in_use", "Idempotency-Key")
    assert early.headers["retry-after"] == "1" and (await ask("f", "stream 300")).status_code in (200, 409)
    assert (await running).json() == (await ask("f", "stream 300")).json()
    broken = [await ask("g", picture("bm8gcGljdHVyZQ==")) for _ in range(2)]
    assert [one.json()["error"]["code"] for one in broken] == ["invalid_image"] * 2
    assert broken[1].headers["idempotent-replayed"] == "true"
