"""POST /v1/chat/completions over HTTP, with a real worker behind it."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service.tree import eventually, log_lines
from tests.service.web import Service, assert_error, encoded, serving, sse_events

pytestmark = pytest.mark.asyncio(loop_scope="module")

RED, BLUE = encoded(colour=(255, 0, 0)), encoded(colour=(0, 0, 255))


def picture(data: str, question: str = "echo x") -> dict[str, Any]:
    url = {"url": f"data:image/png;base64,{data}", "detail": "auto"}
    return {"role": "user", "content": [{"type": "image_url", "image_url": url}, {"type": "text", "text": question}]}


async def complete(service: Service, *messages: str | dict[str, Any], **fields: Any) -> httpx.Response:
    """Messages that are texts are the user's and the assistant's in turn."""
    roles = ("user", "assistant")
    told = [
        {"role": roles[index % 2], "content": one} if isinstance(one, str) else one
        for index, one in enumerate(messages)
    ]
    return await service.client.post("/v1/chat/completions", json={"model": "gpt-4o", "messages": told, **fields})


async def answer(service: Service, *messages: str | dict[str, Any], **fields: Any) -> dict[str, Any]:
    response = await complete(service, *messages, **fields)
    assert response.status_code == 200, response.text
    whole: dict[str, Any] = response.json()
    return whole


def chunks_of(response: httpx.Response) -> list[dict[str, Any]]:
    """All but the last, `[DONE]`; of `data:` lines alone."""
    assert response.status_code == 200 and response.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in response.text.split("\n") if line]
    assert all(line.startswith(("data: ", ":")) for line in lines), response.text
    events = [data for _, data in sse_events(response.text)]
    assert events[-1] == "[DONE]"
    return events[:-1]


def text_of(chunks: list[dict[str, Any]], index: int = 0) -> str:
    choices = [one for chunk in chunks for one in chunk["choices"] if one["index"] == index]
    return "".join(one["delta"].get("content", "") for one in choices)


async def test_an_answer_has_openais_shape_and_nothing_is_kept(module_service: Service) -> None:
    service = module_service
    before = await service.redis.keys("{viscpm}:conversation*")
    whole = await answer(service, picture(RED, "echo 你好"))
    assert whole["id"].startswith("chatcmpl-") and isinstance(whole["created"], int)
    assert (whole["object"], whole["model"], whole["system_fingerprint"]) == ("chat.completion", "gpt-4o", "scripted")
    assert whole["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "你好", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    details = {"cached_tokens": 0, "audio_tokens": 0, "image_tokens": 0, "text_tokens": 1}
    assert whole["usage"] == {
        "prompt_tokens": 1,
        "completion_tokens": 0,
        "total_tokens": 1,
        "prompt_tokens_details": details,
    }
    told = whole["viscpm"]
    assert told["search"] == "beam" and told["image"] is True and told["pictures_ignored"] == 0
    assert "moderation" not in whole
    job = (await service.client.get(f"/jobs/{told['jobs'][0]}")).json()
    assert job["answer"]["conversation_id"] == "" and job["answer"]["seed"] == told["seed"]
    assert await service.redis.keys("{viscpm}:conversation*") == before


async def test_a_text_alone_is_answered_and_the_models_own_name_will_do(module_service: Service) -> None:
    whole = await answer(module_service, "echo ping", model="scripted", max_tokens=5)
    assert whole["choices"][0]["message"]["content"] == "ping" and whole["model"] == "scripted"
    assert whole["viscpm"]["image"] is False


async def test_a_picture_seen_before_costs_no_vision_tower_wherever_it_stands(module_service: Service) -> None:
    first = await answer(module_service, picture(BLUE, "echo one"))
    assert first["viscpm"]["vision_cached"] is False
    talk = (picture(BLUE, "echo one"), "one", "echo two")
    second = await answer(module_service, *talk)
    assert second["choices"][0]["message"]["content"] == "two"
    assert second["viscpm"]["image"] is True and second["viscpm"]["vision_cached"] is True


async def test_a_talk_is_about_its_latest_picture(module_service: Service) -> None:
    talk = (picture(RED, "echo one"), "one", picture(BLUE, "echo two"), "two", "echo three")
    whole = await answer(module_service, *talk)
    assert whole["viscpm"]["pictures_ignored"] == 1
    again = await answer(module_service, picture(BLUE, "echo one"), "one", picture(BLUE, "echo two"))
    assert again["viscpm"]["pictures_ignored"] == 0
    settings = module_service.state.settings.model_copy(update={"strict_pictures": True})
    async with serving(settings) as strict:
        await strict.ready()
        refused = await complete(strict, *talk)
        error = assert_error(refused, 400, "invalid_request", "messages.2.content.0.image_url")
        assert "the talk has 2 pictures, one is allowed" in error["message"]


async def test_a_stream_has_the_role_first_and_the_reason_last(module_service: Service) -> None:
    response = await complete(module_service, picture(RED, "stream 4"), stream=True, temperature=0.5, seed=9)
    chunks = chunks_of(response)
    assert chunks[0]["choices"] == [
        {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None, "logprobs": None}
    ]
    assert chunks[-1]["choices"][0]["delta"] == {} and chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert text_of(chunks) == "w0 w1 w2 w3 " and len(chunks) == 6
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    assert all("usage" not in chunk for chunk in chunks)
    assert chunks[-1]["viscpm"]["seed"] == 9 and chunks[-1]["viscpm"]["search"] == "sample"


async def test_usage_comes_last_where_it_is_asked_for(module_service: Service) -> None:
    response = await complete(module_service, "stream 3", stream=True, stream_options={"include_usage": True})
    *chunks, last = chunks_of(response)
    assert all(chunk["usage"] is None and chunk["choices"] for chunk in chunks)
    assert last["choices"] == [] and last["usage"]["completion_tokens"] == 3


async def test_an_error_after_the_200_is_data_before_done(module_service: Service) -> None:
    *_, error = chunks_of(await complete(module_service, "raise", stream=True))
    assert error["error"]["type"] == "server_error" and set(error["error"]) >= {"message", "code", "param"}
    assert_error(await complete(module_service, "reject"), 400, "context_length_exceeded")


async def test_an_answer_is_cut_before_the_first_stop_also_in_a_stream(module_service: Service) -> None:
    for stop in ("2 w3", ["w9", "w2", ""]):
        whole = await answer(module_service, "stream 6", stop=stop)
        kept = "w0 w1 w" if stop == "2 w3" else "w0 w1 "
        assert whole["choices"][0]["message"]["content"] == kept and whole["choices"][0]["finish_reason"] == "stop"
        chunks = chunks_of(await complete(module_service, "stream 6", stop=stop, stream=True))
        assert text_of(chunks) == kept
    almost = chunks_of(await complete(module_service, "stream 3", stop="w2 w", stream=True))
    assert text_of(almost) == "w0 w1 w2 ", "what may begin a stop is sent once it does not"


async def test_several_answers_have_seeds_that_follow_one_another(module_service: Service) -> None:
    whole = await answer(module_service, "stream 2", n=3, temperature=1, seed=5)
    assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2]
    assert whole["usage"]["completion_tokens"] == 6 and whole["usage"]["prompt_tokens"] == 1
    jobs = [(await module_service.client.get(f"/jobs/{one}")).json() for one in whole["viscpm"]["jobs"]]
    assert [job["answer"]["seed"] for job in jobs] == [5, 6, 7]
    chunks = chunks_of(await complete(module_service, "stream 2", n=2, top_p=0.5, stream=True))
    assert [text_of(chunks, index) for index in (0, 1)] == ["w0 w1 ", "w0 w1 "]
    reasons = [one["finish_reason"] for chunk in chunks for one in chunk["choices"] if one["finish_reason"]]
    assert reasons == ["stop", "stop"]
    searched = await complete(module_service, "echo x", n=2)
    assert_error(searched, 400, "invalid_request", "n")
    assert_error(await complete(module_service, "echo x", n=5, temperature=1), 400, "invalid_request", "n")


@pytest.mark.parametrize("stream", [False, True])
async def test_where_one_of_several_answers_fails_the_others_stop(recounted_service: Service, stream: bool) -> None:
    service = recounted_service
    response = await complete(service, "reject", n=3, temperature=1, stream=stream)
    if stream:
        assert chunks_of(response)[-1]["error"]["code"] == "context_length_exceeded"
    else:
        assert_error(response, 400, "context_length_exceeded")

    async def have_ended() -> bool:
        return bool(await service.redis.zcard("{viscpm}:slots:chat") == 0)

    await eventually(have_ended)
    counts = await service.accounting()
    assert sum(counts.values()) == 3 and set(counts) <= {"refused", "cancelled"}
    assert not vars(service.state.queue)["_streams"], "nobody follows them any more"


async def test_what_has_no_effect_is_told_and_counted(module_service: Service) -> None:
    fields = {"tools": [], "user": "u", "presence_penalty": 0, "x y": 1, "top_k": 3, "store": None}
    response = await complete(module_service, "echo x", **fields)
    assert response.status_code == 200
    assert response.headers["x-ignored-parameters"] == "tools, user, presence_penalty, other, top_k"
    sample = 'viscpm_ignored_parameters_total{parameter="user"}'
    assert await module_service.metric(sample, "/metrics?scope=api") >= 1
    assert "x-ignored-parameters" not in (await complete(module_service, "echo x")).headers


async def test_unknown_models_and_those_that_paint_are_404(module_service: Service) -> None:
    error = assert_error(await complete(module_service, "echo x", model="gpt-5"), 404, "model_not_found", "model")
    assert error["type"] == "invalid_request_error" and "gpt-4o" in error["message"]
    painter = assert_error(await complete(module_service, "echo x", model="dall-e-3"), 404, "model_not_found", "model")
    assert "use one of scripted" in painter["message"]


async def test_a_picture_that_cannot_be_read_is_told_by_its_message(module_service: Service) -> None:
    broken = await complete(module_service, picture("AAAA"))
    assert_error(broken, 400, "invalid_image", "messages.0.content.0.image_url")
    url = {"role": "user", "content": [{"type": "image_url", "image_url": "https://example.org/a.png"}]}
    fetched = await complete(module_service, url, {"role": "user", "content": "echo x"})
    assert_error(fetched, 400, "image_fetch_disabled", "messages.0.content.0.image_url")


@pytest.mark.parametrize("fields", [{}, {"n": 2, "temperature": 1}])
async def test_a_client_that_leaves_stops_all_its_answers(
    module_service: Service, worker_log: Path, fields: dict[str, Any]
) -> None:
    before = len(log_lines(worker_log, "cancel"))
    asked = {"model": "gpt-4o", "messages": [{"role": "user", "content": "stream 5000"}], "stream": True, **fields}
    async with module_service.client.stream("POST", "/v1/chat/completions", json=asked) as response:
        async for _ in response.aiter_lines():
            break
    await eventually(lambda: len(log_lines(worker_log, "cancel")) == before + asked.get("n", 1))


async def test_a_completion_with_an_idempotency_key_is_executed_once(module_service: Service, worker_log: Path) -> None:
    async def ask(key: str, **fields: Any) -> httpx.Response:
        asked = {"model": "gpt-4o", "messages": [picture(RED, "stream 3")], "temperature": 1, **fields}
        return await module_service.client.post(
            "/v1/chat/completions", json=asked, headers={"Idempotency-Key": f"completion {key}"}
        )

    first, again = await ask("a"), await ask("a")
    assert first.status_code == 200 and again.json() == first.json()
    assert ("idempotent-replayed" in first.headers, again.headers["idempotent-replayed"]) == (False, "true")
    [job] = first.json()["viscpm"]["jobs"]
    assert len(log_lines(worker_log, "admit", job)) == 1
    streamed = [await ask("b", stream=True), await ask("b", stream=True)]
    texts = [text_of(chunks_of(one)) for one in streamed]
    assert texts == ["w0 w1 w2 "] * 2
    assert chunks_of(streamed[0])[-1]["viscpm"] == chunks_of(streamed[1])[-1]["viscpm"]
    assert_error(await ask("a", messages=[picture(RED, "stream 4")]), 422, "idempotency_key_reused", "Idempotency-Key")


async def _running_jobs(service: Service, count: int) -> list[str]:
    """Newest first, once so many run."""

    async def running() -> list[str]:
        listed = (await service.client.get("/jobs")).json()["data"]
        found = [job["id"] for job in listed if job["state"] == "running"]
        return found if len(found) == count else []

    await eventually(running)
    return await running()


@pytest.mark.slow
async def test_several_answers_with_an_idempotency_key_are_executed_once(
    module_service: Service, worker_log: Path
) -> None:
    async def ask(key: str, question: str = "stream 3", **fields: Any) -> httpx.Response:
        asked = {"model": "gpt-4o", "messages": [picture(RED, question)], "temperature": 1, "n": 3, **fields}
        return await module_service.client.post(
            "/v1/chat/completions", json=asked, headers={"Idempotency-Key": f"several {key}"}
        )

    first, again = await ask("a", seed=7), await ask("a", seed=7)
    assert first.status_code == 200 and again.json() == first.json() and len(first.json()["choices"]) == 3
    assert again.headers["idempotent-replayed"] == "true"
    jobs = first.json()["viscpm"]["jobs"]
    assert len(set(jobs)) == 3 and [len(log_lines(worker_log, "admit", job)) for job in jobs] == [1, 1, 1]
    streamed = [chunks_of(await ask("b", stream=True)) for _ in range(2)]
    assert streamed[0][-1]["viscpm"] == streamed[1][-1]["viscpm"]
    for index in range(3):
        texts = {
            "".join(choice["delta"].get("content") or "" for chunk in one for choice in chunk["choices"]
                    if choice["index"] == index)
            for one in streamed
        }  # fmt: skip
        assert texts == {"w0 w1 w2 "}
    assert_error(await ask("a", seed=7, n=2), 422, "idempotency_key_reused", "Idempotency-Key")

    running = asyncio.create_task(ask("c", "stream 300"))
    await asyncio.sleep(0.2)
    early = await ask("c", "stream 300")
    assert_error(early, 409, "idempotency_key_in_use", "Idempotency-Key")
    assert early.headers["retry-after"] == "1"
    assert (await ask("c", "stream 300")).status_code in (200, 409) and (await running).status_code == 200
    assert (await ask("c", "stream 300")).json() == (await running).json()

    ended = asyncio.create_task(ask("d", "stream 301"))
    jobs = await _running_jobs(module_service, 3)
    assert (await module_service.client.delete(f"/jobs/{jobs[1]}")).status_code == 200
    assert (await ended).status_code == 499
    anew = await ask("d", "stream 301")
    assert anew.status_code == 200 and "idempotent-replayed" not in anew.headers, "one without an answer: all of them"
    assert set(anew.json()["viscpm"]["jobs"]).isdisjoint(jobs)

    broken = {"type": "image_url", "image_url": {"url": "bm8gcGljdHVyZQ=="}}
    messages = [{"role": "user", "content": [broken, {"type": "text", "text": "x"}]}]
    refused = [await ask("e", messages=messages) for _ in range(2)]
    assert [one.json()["error"]["code"] for one in refused] == ["invalid_image"] * 2
    assert refused[1].headers["idempotent-replayed"] == "true"
