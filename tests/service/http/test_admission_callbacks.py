"""`callback_url` over HTTP: the receiver is told what GET /jobs/{id} tells, whoever dies; what is refused and why."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from safety.verdict import Picture, Stage, Verdict
from service.core.settings import Settings
from service.process.api_server import bind, url_of
from service.process.parent_death import dies_with_parent
from tests.service.tree import ROOT, eventually
from tests.service.web import NO_TLS, Service, assert_error, encoded, picture_bytes, serving
from tests.service.webhooks.receiver import HANG, SECRET, Call, Receiver, receiving
from tests.service.webhooks.test_signing import documented_verifier

ASYNC = {"Prefer": "respond-async"}


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as made:
        yield made


@pytest.fixture
async def calling(settings: Settings, receiver: Receiver) -> AsyncIterator[Service]:
    async with serving(settings.model_copy(update=receiver.settings())) as service:
        await service.ready()
        yield service


async def post(service: Service, path: str, headers: dict[str, str] = ASYNC, **body: Any) -> httpx.Response:
    return await service.client.post(path, json=body, headers=headers)


async def job_of(response: httpx.Response) -> str:
    assert response.status_code == 202, response.text
    job_id: str = response.json()["id"]
    return job_id


async def calls_of(receiver: Receiver, count: int) -> list[Call]:
    async def are_there() -> bool:
        return len(receiver.calls) >= count

    await eventually(are_there)
    return receiver.calls


@pytest.mark.slow
async def test_the_receiver_is_told_what_the_job_tells(calling: Service, receiver: Receiver) -> None:
    url, is_ours = receiver.url, documented_verifier()
    first = await post(calling, "/chat", question="echo 你好", image=encoded(), callback_url=url)
    ids = [await job_of(first)]
    [call] = await calls_of(receiver, 1)
    assert call.told["answer"]["answer"] == "你好"
    conversation_id = call.told["answer"]["conversation_id"]
    again = await post(calling, f"/conversations/{conversation_id}/regenerate", callback_url=url)
    painted = await post(calling, "/paint?async=true", {}, prompt="x", n=2, callback_url=url)
    form = {"question": "raise", "callback_url": url}
    failed = await calling.client.post("/chat", data=form, files={"image": picture_bytes()}, headers=ASYNC)
    ids += [await job_of(one) for one in (again, painted, failed)]
    cancelled = await job_of(await post(calling, "/chat", question="stream 100000", callback_url=url))
    await calling.client.delete(f"/jobs/{cancelled}")
    await calls_of(receiver, 5)
    told = {call.told["id"]: call for call in receiver.calls}
    assert set(told) == {*ids, cancelled}
    for job_id, call in told.items():
        assert is_ours(SECRET, call.headers, call.body) and call.headers["webhook-id"] == job_id
        assert (await calling.client.get(f"/jobs/{job_id}")).content == call.body
    assert len(told[ids[2]].told["answer"]["data"]) == 2
    assert told[ids[3]].told["error"]["code"] == "job_failed" and told[cancelled].told["error"]["code"] == "cancelled"
    assert await calling.metric('viscpm_webhooks_total{outcome="delivered"}', "/metrics?scope=api") == 5


@pytest.mark.slow
async def test_what_is_refused_and_calls_nobody(calling: Service, service: Service, receiver: Receiver) -> None:
    url = receiver.url
    waits = await post(calling, "/chat", {}, question="echo x", callback_url=url)
    assert "respond-async" in assert_error(waits, 400, "invalid_request", "callback_url")["message"]
    off = await post(service, "/paint", prompt="x", callback_url=url)
    assert "VISCPM_WEBHOOK_SECRET" in assert_error(off, 400, "webhooks_disabled", "callback_url")["message"]
    for odd in ("http://10.0.0.1/", "http://127.0.0.2:80/", "ftp://example.org/", "x", "http://localhost/"):
        answer = await post(calling, "/chat", question="echo x", callback_url=odd)
        assert_error(answer, 400, "blocked_url", "callback_url")
    long = await post(calling, "/chat", question="echo x", callback_url="http://example.org/" + "a" * 3000)
    assert_error(long, 400, "invalid_request", "callback_url")
    batch = await calling.client.post(
        "/v1/chat/completions", json={"model": "gpt-4o", "messages": [], "callback_url": url}
    )
    assert batch.status_code == 400, "no field of OpenAI's routes"
    picture = await post(calling, "/chat", question="echo x", image="bm8gcGljdHVyZQ==", callback_url=url)
    assert_error(picture, 400, "invalid_image", "image")
    await asyncio.sleep(0.5)
    assert receiver.calls == []
    assert await calling.accounting() == {"refused": 6}


@pytest.mark.slow
async def test_a_request_sent_twice_calls_back_once(calling: Service, receiver: Receiver) -> None:
    key = ASYNC | {"Idempotency-Key": "a"}
    asked = {"question": "echo x", "callback_url": receiver.url}
    ids = {await job_of(await post(calling, "/chat", key, **asked)) for _ in range(2)}
    assert len(ids) == 1
    await calls_of(receiver, 1)
    assert {await job_of(await post(calling, "/chat", key, **asked))} == ids
    other = await post(calling, "/chat", key, **asked | {"callback_url": receiver.url + "&x"})
    assert_error(other, 422, "idempotency_key_reused", "Idempotency-Key")
    await asyncio.sleep(0.5)
    assert len(receiver.calls) == 1


class PickyScreens:
    """Let no answer pass that tells the secret."""

    are_open = False

    async def text(self, stage: Stage, text: str) -> Verdict:
        return Verdict(stage, "block" if stage == "answer" and "secret" in text else "pass", {}, "picky")

    async def image(self, stage: Stage, picture: Picture, language: str = "") -> Verdict:
        return Verdict(stage, "pass", {}, "picky")


async def test_only_what_the_gate_lets_pass_is_sent(settings: Settings, receiver: Receiver) -> None:
    async with serving(settings.model_copy(update=receiver.settings()), PickyScreens()) as guarded:
        await guarded.ready()
        job_id = await job_of(await post(guarded, "/chat", question="echo the secret", callback_url=receiver.url))
        [call] = await calls_of(receiver, 1)
        assert call.told["state"] == "refused" and call.told["answer"]["finish_reason"] == "content_filter"
        assert call.body == (await guarded.client.get(f"/jobs/{job_id}")).content and b"secret" not in call.body


@contextmanager
def api_process(settings: Settings) -> Iterator[str]:
    """The URL of a `viscpm api` of its own, which is killed at the end."""
    changed = settings.model_dump(mode="json", exclude_defaults=True, exclude={"models", "cuda_memory_cpmbee_max"})
    environment = os.environ | {"PYTHONPATH": str(ROOT), "VISCPM_LOG_LEVEL": "warning"}
    for name, value in changed.items():
        environment[f"VISCPM_{name.upper()}"] = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    with bind("127.0.0.1", 0) as listener:
        command = [sys.executable, "-m", "service.process.cli", "api", "--fd", str(listener.fileno())]
        api = subprocess.Popen(dies_with_parent(command), env=environment, cwd=ROOT, pass_fds=[listener.fileno()])
        try:
            yield url_of(listener)
        finally:
            api.kill()
            api.wait()


@pytest.mark.own_process
async def test_an_api_process_that_is_killed_while_it_calls_leaves_the_call_to_another(settings: Settings) -> None:
    async with receiving(HANG, 200) as receiver:
        settings = settings.model_copy(update=receiver.settings())
        with api_process(settings) as url:
            async with httpx.AsyncClient(base_url=url, timeout=30.0, verify=NO_TLS) as client:

                async def is_ready() -> bool:
                    return (await client.get("/health/ready")).status_code == 200

                await eventually(is_ready, 20.0)
                body = {"question": "echo x", "callback_url": receiver.url}
                job_id = await job_of(await client.post("/chat", json=body, headers=ASYNC))
                await calls_of(receiver, 1)
        async with serving(settings) as other:
            assert [call.told["id"] for call in await calls_of(receiver, 2)] == [job_id, job_id]
            assert receiver.calls[1].body == (await other.client.get(f"/jobs/{job_id}")).content
