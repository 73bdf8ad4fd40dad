"""`Idempotency-Key` over HTTP: one execution, and its answer again: later, elsewhere, after its client has left."""

import asyncio
from pathlib import Path

import httpx
import pytest

from service.core.settings import Settings
from tests.service.http.access.keyed import keyed
from tests.service.tree import eventually, log_lines
from tests.service.web import NO_TLS, Service, assert_error, encoded, picture_bytes, serving, sse_events

KEY = {"Idempotency-Key": "order 4711"}


async def ask(
    service: Service, question: str = "stream 3", key: dict[str, str] = KEY, **fields: object
) -> httpx.Response:
    return await service.client.post("/chat", json={"question": question, **fields}, headers=key)


@pytest.mark.slow
async def test_the_same_answer_again_also_on_another_process(
    service: Service, settings: Settings, worker_log: Path
) -> None:
    first = await ask(service, image=encoded())
    assert "idempotent-replayed" not in first.headers
    async with serving(settings) as other:
        await other.ready()
        for again in (await ask(service, image=encoded()), await ask(other, image=encoded(), num_beams=3)):
            assert (again.status_code, again.json()) == (200, first.json()), "also with a default written out"
            assert again.headers["idempotent-replayed"] == "true"
    assert await service.accounting() == {"done": 1}
    assert len(log_lines(worker_log, "admit", first.json()["id"])) == 1
    talk = (await service.client.get(f"/conversations/{first.json()['conversation_id']}")).json()
    assert len(talk["turns"]) == 1


@pytest.mark.slow
async def test_another_body_is_422_and_a_running_one_409(service: Service) -> None:
    running = asyncio.create_task(ask(service, "stream 300"))
    await eventually(lambda: _is_running(service))
    early = await ask(service, "stream 300")
    assert_error(early, 409, "idempotency_key_in_use", "Idempotency-Key")
    assert early.headers["retry-after"] == "1"
    for other in (await ask(service, "stream 301"), await ask(service, "stream 300", stream=True)):
        assert_error(other, 422, "idempotency_key_reused", "Idempotency-Key")
    painted = await service.client.post("/paint", json={"prompt": "x"}, headers=KEY)
    assert_error(painted, 422, "idempotency_key_reused", "Idempotency-Key")
    assert (await ask(service, "stream 300", image=encoded())).status_code == 422
    answer = (await running).json()
    assert (await ask(service, "stream 300")).json() == answer
    assert await service.accounting() == {"done": 1}


async def _is_running(service: Service) -> bool:
    keys = await service.redis.keys("{viscpm}:job:*")
    return [await service.redis.hget(key, "state") for key in keys] == [b"running"]


@pytest.mark.slow
async def test_many_at_once_are_one_execution(service: Service) -> None:
    answers = await asyncio.gather(*(ask(service) for _ in range(20)))
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) <= {200, 409} and 200 in statuses
    last = await ask(service)
    assert {answer.json()["id"] for answer in answers if answer.status_code == 200} == {last.json()["id"]}
    assert await service.accounting() == {"done": 1}


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True])
async def test_the_answer_waits_for_a_client_that_left(service: Service, stream: bool) -> None:
    body = {"question": "stream 100", "stream": stream}
    async with httpx.AsyncClient(base_url=service.url, verify=NO_TLS) as leaving:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.15), leaving.stream("POST", "/chat", json=body, headers=KEY) as response:
                async for _ in response.aiter_bytes():
                    pass

    async def is_answered() -> bool:
        return (await ask(service, "stream 100", stream=stream)).status_code == 200

    await eventually(is_answered)
    again = await ask(service, "stream 100", stream=stream)
    answer = sse_events(again.text)[-2][1] if stream else again.json()
    assert answer["answer"].split() == [f"w{i}" for i in range(100)]
    assert await service.accounting() == {"done": 1}


@pytest.mark.slow
async def test_streams_pictures_and_jobs_again(service: Service) -> None:
    told: list[tuple[object, ...]] = []
    for _ in range(2):
        streamed = await ask(service, key={"Idempotency-Key": "s"}, stream=True)
        events = [data for _, data in sse_events(streamed.text)]
        assert "".join(event["delta"] for event in events[:-2]) == events[-2]["answer"] and events[-1] == "[DONE]"
        picture = await service.client.post(
            "/paint", json={"prompt": "x"}, headers={"Idempotency-Key": "p", "Accept": "image/png"}
        )
        painted = await service.client.post(
            "/paint", json={"prompt": "x", "stream": True}, headers={"Idempotency-Key": "ps"}
        )
        job = await service.client.post(
            "/chat", json={"question": "stream 200"}, headers={"Idempotency-Key": "j", "Prefer": "respond-async"}
        )
        last_picture = sse_events(painted.text)[-2]
        told.append((events[-2], picture.content, last_picture, job.status_code, job.json()["id"]))
    assert told[0] == told[1] and told[0][3] == 202

    async def is_over() -> bool:
        return (await service.client.get(f"/jobs/{told[0][4]}")).json()["state"] == "done"

    await eventually(is_over)
    assert await service.accounting() == {"done": 4}


@pytest.mark.slow
async def test_a_form_with_a_file_is_the_same_with_another_boundary(service: Service) -> None:
    """Clients draw a boundary for each request; httpx does."""
    for colour in ((1, 2, 3), (1, 2, 3), (9, 9, 9)):
        files = {"image": ("a.png", picture_bytes(colour=colour), "image/png")}
        answer = await service.client.post("/chat", data={"question": "echo x"}, files=files, headers=KEY)
        assert answer.status_code == (422 if colour == (9, 9, 9) else 200), answer.text
    assert await service.accounting() == {"done": 1}


@pytest.mark.slow
async def test_a_refusal_is_told_again_and_a_failure_is_tried_again(service: Service) -> None:
    first, again = [await ask(service, "echo x", image="bm8gcGljdHVyZQ==") for _ in range(2)]
    message = assert_error(first, 400, "invalid_image", "image")["message"]
    assert assert_error(again, 400, "invalid_image")["message"] == message
    failed = [await ask(service, "raise", key={"Idempotency-Key": "f"}) for _ in range(2)]
    assert len({one.json()["error"]["job_id"] for one in failed}) == 2 and {one.status_code for one in failed} == {500}
    assert await service.accounting() == {"refused": 1, "failed": 2}


@pytest.mark.slow
async def test_a_key_whose_request_got_no_slot_is_free(settings: Settings) -> None:
    async with serving(settings.model_copy(update={"queue_size": 1})) as small:
        await small.ready()
        job = (
            await small.client.post("/chat", json={"question": "stream 100000"}, headers={"Prefer": "respond-async"})
        ).json()
        assert_error(await ask(small), 429, "queue_full")
        await small.client.delete(f"/jobs/{job['id']}")
        assert (await ask(small)).status_code == 200


@pytest.mark.slow
@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
async def test_what_is_no_key(service: Service, key: str) -> None:
    error = assert_error(await ask(service, key={"Idempotency-Key": key}), 400, "invalid_request", "Idempotency-Key")
    assert f"got {len(key)} characters" in error["message"]
    assert (await ask(service, key={"Idempotency-Key": "x" * 255})).status_code == 200


@pytest.mark.slow
async def test_keys_are_each_tenants_own(settings: Settings) -> None:
    async with keyed(settings) as service:
        ours, _ = await service.client("ours")
        theirs, _ = await service.client("theirs")
        for client, question in ((ours, "echo a"), (theirs, "echo b"), (ours, "echo a")):
            answer = await client.post("/chat", json={"question": question}, headers=KEY)
            assert answer.json()["answer"] == question[-1]
        assert await service.service.accounting() == {"done": 2}
