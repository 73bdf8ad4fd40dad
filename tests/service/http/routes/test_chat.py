"""POST /chat over HTTP, with a real worker behind it."""

import asyncio
import json
from pathlib import Path

import pytest

from service.core.settings import Settings
from tests.service.tree import eventually, log_lines
from tests.service.web import Service, assert_error, encoded, picture_bytes, serving, sse_events


async def test_the_public_demos_body_is_answered(service: Service) -> None:
    response = await service.client.post("/chat", json={"image": encoded(), "question": "echo 你好 world"})
    assert response.status_code == 200
    answer = response.json()
    assert answer["answer"] == "你好 world"
    assert answer["finish_reason"] == "stop"
    assert answer["object"] == "chat.answer" and answer["model"] == "scripted"
    assert answer["usage"] == {"prompt_tokens": 1, "image_tokens": 0, "completion_tokens": 0, "total_tokens": 1}
    assert answer["id"].startswith("chat-") and answer["conversation_id"].startswith("conv-")
    assert 0 <= answer["seed"] < 2**31
    assert response.headers["x-request-id"].startswith("req-")
    assert int(response.headers["openai-processing-ms"]) >= 0
    assert await service.accounting() == {"done": 1}


@pytest.mark.usefixtures("patient_scrapes")
async def test_a_second_turn_needs_no_picture_and_runs_no_vision_tower(service: Service) -> None:
    colour = (1, 2, 3)
    first = (await service.ask("echo one", image=encoded(colour=colour))).json()
    second = (await service.ask("echo two", conversation_id=first["conversation_id"])).json()
    assert second["conversation_id"] == first["conversation_id"]
    assert second["answer"] == "two" and second["id"] != first["id"]
    text = (await service.client.get("/metrics")).text
    assert 'viscpm_vision_cache_hits_total{worker="' in text
    kept = (await service.client.get(f"/conversations/{first['conversation_id']}")).json()
    assert [(turn["question"], turn["answer"]) for turn in kept["turns"]] == [("echo one", "one"), ("echo two", "two")]


async def test_the_same_picture_may_be_sent_again_and_another_may_not(service: Service) -> None:
    first = (await service.ask("echo one", image=encoded())).json()
    talk = first["conversation_id"]
    assert (await service.ask("echo two", image=encoded(), conversation_id=talk)).status_code == 200
    other = await service.ask("echo three", image=encoded(colour=(0, 255, 0)), conversation_id=talk)
    assert_error(other, 400, "invalid_request", "image")
    assert len((await service.client.get(f"/conversations/{talk}")).json()["turns"]) == 2
    assert await service.accounting() == {"done": 2, "failed": 1}


async def test_a_form_with_a_file_is_the_same_request(service: Service) -> None:
    response = await service.client.post(
        "/chat",
        data={"question": "echo form", "seed": "7", "num_beams": "1", "stream": "false"},
        files={"image": ("cat.png", picture_bytes(), "image/png")},
    )
    assert response.status_code == 200, response.text
    assert response.json()["answer"] == "form" and response.json()["seed"] == 7


async def test_forms_that_are_wrong_are_refused(service: Service) -> None:
    def part(name: str, value: str) -> tuple[str, tuple[None, str]]:
        return name, (None, value)

    post = service.client.post
    assert_error(
        await post("/chat", files=[part("question", "q"), part("question", "q")]), 400, "invalid_request", "question"
    )
    assert_error(await post("/chat", files=[part("question", "q"), part("seed", "x")]), 400, "invalid_request", "seed")
    both = [part("question", "q"), part("image", encoded()), ("image", ("a.png", picture_bytes()))]
    assert_error(await post("/chat", files=both), 400, "invalid_request", "image")
    wrong = [part("question", "q"), ("mask", ("a.png", picture_bytes()))]
    assert_error(await post("/chat", files=wrong), 400, "invalid_request", "mask")
    headers = {"content-type": "multipart/form-data"}
    assert_error(await post("/chat", content=b"x", headers=headers), 400, "invalid_request")
    headers = {"content-type": "multipart/form-data; boundary=b; charset=punycode"}
    body = b'--b\r\nContent-Disposition: form-data; name="question"\r\n\r\n\xff\xfe--\r\n--b--\r\n'
    assert (await post("/chat", content=body, headers=headers)).status_code == 400
    assert await service.accounting() == {}


async def test_a_stream_sends_pieces_then_the_whole_answer_then_done(service: Service) -> None:
    response = await service.ask("stream 5", image=encoded(), stream=True)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-accel-buffering"] == "no"
    events = [data for _, data in sse_events(response.text)]
    assert events[-1] == "[DONE]"
    begin, *pieces, answer = events[:-1]
    assert begin["delta"] == "" and begin["conversation_id"] == answer["conversation_id"]
    assert [piece["delta"] for piece in pieces] == [f"w{i} " for i in range(5)]
    assert [piece["offset"] for piece in pieces] == [0, 3, 6, 9, 12]
    assert answer["answer"] == "w0 w1 w2 w3 w4 " and answer["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] == 5
    assert {event["id"] for event in events[:-1]} == {answer["id"]}
    assert await service.metric('viscpm_time_to_first_token_seconds_count{model="chat"}') == 1
    assert await service.accounting() == {"done": 1}


async def test_a_stream_of_an_answer_without_deltas_sends_it_as_one_piece(service: Service) -> None:
    response = await service.ask("echo all at once", stream=True)
    events = [data for _, data in sse_events(response.text)]
    assert [event["delta"] for event in events[:-2]] == ["", "all at once"]


async def test_an_error_after_the_200_is_an_event_before_done(service: Service) -> None:
    response = await service.ask("raise", stream=True)
    assert response.status_code == 200
    *_, error, done = [data for _, data in sse_events(response.text)]
    assert done == "[DONE]"
    assert error["error"]["type"] == "server_error" and error["error"]["job_id"].startswith("chat-")
    assert await service.accounting() == {"failed": 1}


async def test_a_job_that_fails_tells_its_id_and_an_engines_refusal_is_the_clients_error(service: Service) -> None:
    failed = (await service.ask("raise")).json()["error"]
    assert failed["job_id"].startswith("chat-")
    assert_error(await service.ask("reject"), 400, "context_length_exceeded")
    assert await service.accounting() == {"failed": 2}


async def test_two_turns_at_once_on_one_conversation_lose_nothing(service: Service) -> None:
    talk = (await service.ask("echo start")).json()["conversation_id"]
    slow = asyncio.create_task(service.ask("stream 300", conversation_id=talk))
    await eventually(lambda: service.redis.exists(f"conversation:default:{talk}:busy"))
    busy = await service.ask("echo meanwhile", conversation_id=talk)
    assert_error(busy, 409, "conversation_busy", "conversation_id")
    assert int(busy.headers["retry-after"]) >= 1
    assert (await slow).status_code == 200
    assert (await service.ask("echo after", conversation_id=talk)).status_code == 200
    turns = (await service.client.get(f"/conversations/{talk}")).json()["turns"]
    assert [turn["question"] for turn in turns] == ["echo start", "stream 300", "echo after"]
    assert await service.accounting() == {"done": 3, "failed": 1}


async def test_a_conversation_is_free_again_after_a_failed_turn(service: Service) -> None:
    talk = (await service.ask("echo start")).json()["conversation_id"]
    assert (await service.ask("raise", conversation_id=talk)).status_code == 500
    assert (await service.ask("echo more", conversation_id=talk)).status_code == 200
    assert len((await service.client.get(f"/conversations/{talk}")).json()["turns"]) == 2


async def test_a_full_queue_refuses_at_once_and_decodes_nothing(service: Service, settings: Settings) -> None:
    size, extra = 4, 3
    async with (
        serving(settings.model_copy(update={"queue_size": size})) as full,
        serving(settings.model_copy(update={"queue_size": size})) as twin,
    ):
        await full.ready()
        await twin.ready()
        sides = [full, twin]
        waiting = [asyncio.create_task(sides[i % 2].ask("stream 400", image=encoded())) for i in range(size)]
        await eventually(lambda: _are_full(sides, size))
        decodes = [side.state.images.decodes for side in sides]
        loop = asyncio.get_running_loop()
        for i in range(extra):
            began_s = loop.time()
            refused = await sides[i % 2].ask("echo x", image=encoded())
            assert loop.time() - began_s < 0.2  # 50 ms on an idle machine
            error = assert_error(refused, 429, "queue_full")
            assert error["type"] == "rate_limit_error" and int(refused.headers["retry-after"]) >= 1
        assert [side.state.images.decodes for side in sides] == decodes
        answers = await asyncio.gather(*waiting)
        assert [answer.status_code for answer in answers] == [200] * size
        assert await full.accounting() == {"done": size}
        rejected = [
            await side.metric('viscpm_queue_rejections_total{model="chat",reason="queue_full"}') for side in sides
        ]
        assert sum(rejected) == extra


async def _are_full(sides: list[Service], size: int) -> bool:
    """Every slot is taken and its picture decoded: a slot is taken first."""
    decodes = sum(side.state.images.decodes for side in sides)
    return await sides[0].redis.zcard("slots:chat") == size and decodes == size


async def test_n_plus_k_at_once_gives_exactly_k_refusals(settings: Settings) -> None:
    size, extra = 5, 4
    async with serving(settings.model_copy(update={"queue_size": size})) as service:
        await service.ready()
        asked = [service.ask("stream 100", image=encoded()) for _ in range(size + extra)]
        statuses = sorted(response.status_code for response in await asyncio.gather(*asked))
        assert statuses == [200] * size + [429] * extra
        assert service.state.images.decodes == size
        assert await service.accounting() == {"done": size}


async def test_a_client_that_goes_away_cancels_its_running_job(service: Service, worker_log: Path) -> None:
    for stream in (False, True):
        job_id = await _ask_and_leave(service, "stream 100000", stream)
        await eventually(lambda found=job_id: log_lines(worker_log, "cancel", found))
    await eventually(lambda: _has_ended(service, "cancelled:chat", 2))
    assert await service.accounting() == {"cancelled": 2}
    where = 'viscpm_jobs_cancelled_total{model="chat",where="running"}'
    assert await service.metric(where) == 2
    outcome = 'viscpm_requests_total{outcome="cancelled",route="/chat"}'
    await eventually(lambda: _is(service, outcome, 2))


async def test_a_client_that_goes_away_while_queued_never_starts_its_job(service: Service, worker_log: Path) -> None:
    blocking = [asyncio.create_task(service.ask("stream 400")) for _ in range(4)]  # all that the worker takes
    await eventually(lambda: _count(service, b"running", 4))
    await _leave_early(service, {"question": "echo late"})
    await eventually(lambda: _has_ended(service, "cancelled:chat", 1))
    assert await service.metric('viscpm_jobs_cancelled_total{model="chat",where="queued"}') == 1
    assert all(answer.status_code == 200 for answer in await asyncio.gather(*blocking))
    ids = [key.decode().split(":", 1)[1] for key in await service.redis.keys("job:*")]
    states = {job_id: await service.redis.hget(f"job:{job_id}", "state") for job_id in ids}
    [cancelled] = [job_id for job_id, state in states.items() if state == b"cancelled"]
    assert not log_lines(worker_log, "admit", cancelled)
    assert await service.accounting() == {"done": 4, "cancelled": 1}


async def test_a_job_past_its_deadline_is_cancelled_and_told(settings: Settings) -> None:
    async with serving(settings.model_copy(update={"chat_deadline_s": 0.3})) as service:
        await service.ready()
        assert_error(await service.ask("stream 100000"), 504, "deadline_exceeded")
        assert await service.accounting() == {"cancelled": 1}


async def test_a_client_that_reads_slowly_holds_up_nobody(service: Service) -> None:
    host, port = service.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    body = json.dumps({"question": "stream 400", "stream": True}).encode()
    writer.write(_request_head(len(body)) + body)
    await reader.read(1)
    began_s = asyncio.get_running_loop().time()
    assert (await service.ask("echo quick")).status_code == 200
    assert asyncio.get_running_loop().time() - began_s < 2
    # its job ends although its client has read one byte
    await eventually(lambda: _has_ended(service, "done:chat", 2))
    rest = await reader.read(-1) if await reader.read(200) else b""
    assert b"[DONE]" in rest
    writer.close()
    assert await service.accounting() == {"done": 2}


async def test_respond_async_gives_an_id_to_ask_for(service: Service) -> None:
    asked = {"question": "stream 20", "stream": True}
    response = await service.client.post("/chat", json=asked, headers={"Prefer": "respond-async"})
    assert response.status_code == 202
    assert response.headers["preference-applied"] == "respond-async"
    job = response.json()
    assert response.headers["location"] == f"/jobs/{job['id']}" and job["state"] == "queued"

    async def is_done() -> bool:
        return (await service.client.get(f"/jobs/{job['id']}")).json()["state"] == "done"

    await eventually(is_done)
    answer = (await service.client.get(f"/jobs/{job['id']}")).json()["answer"]
    assert answer["answer"].startswith("w0 w1 ") and answer["id"] == job["id"]
    assert (await service.client.get(f"/conversations/{answer['conversation_id']}")).status_code == 200
    assert await service.accounting() == {"done": 1}


async def test_seeds_are_told_and_a_given_one_is_used(service: Service) -> None:
    drawn = {(await service.ask("echo a")).json()["seed"] for _ in range(3)}
    assert len(drawn) > 1
    assert (await service.ask("echo a", seed=12345)).json()["seed"] == 12345


async def _ask_and_leave(service: Service, question: str, stream: bool) -> str:
    """Leave once the job runs; its id."""
    known = set(await service.redis.keys("job:*"))
    leaving = asyncio.create_task(_leave_early(service, {"question": question, "stream": stream}, after_s=0.3))

    async def runs() -> list[bytes]:
        new = set(await service.redis.keys("job:*")) - known
        return [key for key in new if await service.redis.hget(key, "state") == b"running"]

    await eventually(runs)
    [key] = set(await service.redis.keys("job:*")) - known
    await leaving
    return key.decode().split(":", 1)[1]


async def _leave_early(service: Service, body: dict[str, object], after_s: float = 0.2) -> None:
    host, port = service.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    data = json.dumps(body).encode()
    writer.write(_request_head(len(data)) + data)
    await writer.drain()
    await asyncio.sleep(after_s)
    writer.close()
    await writer.wait_closed()


def _request_head(body_bytes: int) -> bytes:
    return (
        f"POST /chat HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {body_bytes}\r\n"
        "Connection: close\r\n\r\n"
    ).encode()


async def _has_ended(service: Service, name: str, count: int) -> bool:
    return int(await service.redis.hget("accounting", name) or 0) == count


async def _count(service: Service, state: bytes, count: int) -> bool:
    keys = await service.redis.keys("job:*")
    return [await service.redis.hget(key, "state") for key in keys].count(state) == count


async def _is(service: Service, sample: str, value: float) -> bool:
    return await service.metric(sample) == value
