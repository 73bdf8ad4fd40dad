"""Lines of batches as requests to the app: whose they are, how they wait, and how they are taken out again."""

import asyncio

import msgspec
import pytest

from service.batches.batch_store import BatchRequest
from service.batches.lines import RequestLine
from service.core.errors import InvalidApiKey
from service.http.openai.batch_requests import BatchRequests
from tests.service.http.access.keyed import keyed
from tests.service.tree import eventually
from tests.service.web import Service

pytestmark = pytest.mark.asyncio(loop_scope="module")


def batch(tenant: str = "default", key_id: str = "") -> BatchRequest:
    return BatchRequest("batch_1", tenant, key_id, "/chat", "file-1", "file-2", "file-3")


def line(question: str) -> RequestLine:
    return RequestLine("a", "POST", "/chat", msgspec.Raw(msgspec.json.encode({"question": question})))


def requests_of(service: Service) -> BatchRequests:
    return BatchRequests(service.app, service.state)


@pytest.mark.slow
async def test_a_line_is_executed_once_under_its_key(module_service: Service) -> None:
    sender = requests_of(module_service)
    first = await sender.send(batch(), line("echo hi"), "batch_1:0")
    assert (first.status, first.code, first.retry_after_s) == (200, "", 0) and first.request_id.startswith("req-")
    answer = msgspec.json.decode(first.body)
    assert answer["answer"] == "hi"
    again = await sender.send(batch(), line("echo hi"), "batch_1:0")
    assert msgspec.json.decode(again.body) == answer
    other = await sender.send(batch(), line("echo ho"), "batch_1:0")
    assert (other.status, other.code) == (422, "idempotency_key_reused")
    count = await module_service.metric('viscpm_requests_total{outcome="ok",route="/chat"}', "/metrics?scope=api")
    assert count == 2, "lines are requests like others, in the metrics too"


@pytest.mark.slow
async def test_a_line_under_way_says_later_and_when(module_service: Service) -> None:
    sender = requests_of(module_service)
    running = asyncio.create_task(sender.send(batch(), line("stream 200"), "batch_1:1"))
    await eventually(lambda: _state_of(module_service, "batch_1:1", b"running"))
    early = await sender.send(batch(), line("stream 200"), "batch_1:1")
    assert (early.status, early.code, early.retry_after_s) == (409, "idempotency_key_in_use", 1)
    assert (await running).status == 200


@pytest.mark.slow
async def test_lines_wait_among_the_batch_jobs_and_can_be_withdrawn(module_service: Service) -> None:
    sender, busy = requests_of(module_service), []
    for _ in range(8):  # twice what the worker takes
        busy.append(asyncio.create_task(module_service.ask("stream 200")))
    await eventually(lambda: _num_slots(module_service, 8))
    waiting = asyncio.create_task(sender.send(batch(), line("echo never"), "batch_1:2"))
    await eventually(lambda: _state_of(module_service, "batch_1:2", b"queued"))
    assert await module_service.redis.xlen("{viscpm}:jobs:chat:batch") == 1
    await sender.withdraw(batch(), "batch_1:2")
    told = await waiting
    assert (told.status, told.code) == (499, "cancelled")
    for answer in await asyncio.gather(*busy):
        assert answer.status_code == 200
    for key in ("batch_1:0", "batch_1:9"):  # one that ended, one that never was
        await sender.withdraw(batch(), key)


async def test_a_line_has_its_batchs_key_and_tenant(module_service: Service) -> None:
    async with keyed(module_service.state.settings) as service:
        sender = requests_of(service.service)
        painter, _ = await service.store.create("p", "acme", ("paint",))
        refused = await sender.send(batch("acme", painter.id), line("echo x"), "batch_1:3")
        assert (refused.status, refused.code) == (403, "insufficient_scope")
        chatter, text = await service.store.create("c", "acme", ("chat",))
        answered = await sender.send(batch("acme", chatter.id), line("echo x"), "batch_1:3")
        client = await service.client_of(text)
        assert (await client.get(f"/jobs/{msgspec.json.decode(answered.body)['id']}")).status_code == 200
        for key_id in ("", "0123456789ab"):
            with pytest.raises(InvalidApiKey):
                await sender.send(batch("acme", key_id), line("echo x"), "batch_1:4")


async def _state_of(service: Service, key: str, state: bytes) -> bool:
    job_id = await service.state.idempotency.job_of("default", key)
    return bool(job_id and await service.redis.hget(f"{{viscpm}}:job:{job_id}", "state") == state)


async def _num_slots(service: Service, count: int) -> bool:
    return int(await service.redis.zcard("{viscpm}:slots:chat")) == count
