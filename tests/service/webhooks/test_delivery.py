"""Deliveries to a real server, from a real Redis: again until accepted, given up in the end, never lost on the way."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from service.core.metrics import Metrics
from service.core.settings import Settings
from service.core.tasks import TaskSupervisor
from service.redis.connection import open_redis
from service.webhooks.delivery import WebhookDelivery
from service.webhooks.pending import PendingWebhooks
from service.webhooks.sender import WebhookSender
from tests.service.tree import ApiSide, api_side, eventually, quick_settings
from tests.service.webhooks.receiver import HANG, SECRET, Receiver, receiving
from tests.service.webhooks.test_pending import submit
from tests.service.webhooks.test_signing import documented_verifier


class Side:
    """An API process' deliveries, and the queue beside them."""

    def __init__(self, api: ApiSide, delivery: WebhookDelivery, metrics: Metrics) -> None:
        self.api = api
        self.delivery = delivery
        self._metrics = metrics

    async def end(self, job_id: str, url: str) -> None:
        await submit(self.api, job_id, url)
        await self.api.producer.cancel(job_id, "deleted")
        self.delivery.wake()

    def counted(self, outcome: str) -> float:
        return self._metrics.registry.get_sample_value("viscpm_webhooks_total", {"outcome": outcome}) or 0.0


@asynccontextmanager
async def delivering(settings: Settings) -> AsyncIterator[Side]:
    async def told(job_id: str) -> bytes | None:
        return f'{{"id": "{job_id}"}}'.encode()

    async with AsyncExitStack() as stack:
        metrics = Metrics("api")
        tasks = TaskSupervisor("api", metrics)
        pending = PendingWebhooks(open_redis(settings), settings)
        delivery = WebhookDelivery(pending, WebhookSender(settings), told, settings, metrics, tasks)
        delivery.start()
        stack.push_async_callback(delivery.close)
        yield Side(await stack.enter_async_context(api_side(settings)), delivery, metrics)


def settings_of(redis_url: str, receiver: Receiver, **more: object) -> Settings:
    return quick_settings(redis_url, **receiver.settings() | more)


async def until(condition: Callable[[], bool]) -> None:
    async def holds() -> bool:
        return condition()

    await eventually(holds)


@pytest.mark.slow
async def test_again_until_it_is_accepted_with_one_id_and_a_new_signature(redis_url: str) -> None:
    is_ours = documented_verifier()
    async with receiving(500, 302, 429, 200) as receiver, delivering(settings_of(redis_url, receiver)) as side:
        await side.end("a", receiver.url)
        await until(lambda: side.counted("delivered") == 1)
        assert side.counted("retried") == 3 and side.counted("failed") == 0
        await asyncio.sleep(0.3)
    assert len(receiver.calls) == 4, "told once more than it had to be"
    assert {call.headers["webhook-id"] for call in receiver.calls} == {"a"}
    assert all(is_ours(SECRET, call.headers, call.body) and call.told == {"id": "a"} for call in receiver.calls)


@pytest.mark.slow
async def test_given_up_after_its_tries_or_where_nobody_wants_to_hear(redis_url: str) -> None:
    async with receiving(500) as receiver, receiving(410) as gone:
        ports = {"fetch_ports": (receiver.port, gone.port), "webhook_tries": 3, "webhook_retry_s": 0.05}
        async with delivering(settings_of(redis_url, receiver, **ports)) as side:
            await side.end("a", receiver.url)
            await side.end("b", gone.url)
            await until(lambda: side.counted("failed") == 2)
            await asyncio.sleep(0.3)
            assert await side.api.connection.send("ZCARD", side.api.producer.keys.webhooks) == 0
    assert (len(receiver.calls), len(gone.calls)) == (3, 1)


async def test_who_hangs_holds_nobody_up(redis_url: str) -> None:
    async with receiving(HANG) as slow, receiving() as receiver:
        ports = {"fetch_ports": (receiver.port, slow.port), "webhook_timeout_s": 5.0}
        async with delivering(settings_of(redis_url, receiver, **ports)) as side:
            for number in range(8):
                await side.end(f"slow-{number}", slow.url)
            await until(lambda: len(slow.calls) == 8)
            await side.end("a", receiver.url)
            await until(lambda: side.counted("delivered") == 1)


@pytest.mark.slow
async def test_what_a_process_dies_with_is_anothers(redis_url: str) -> None:
    """The first one is stopped without a word while its receiver lets it wait."""
    async with receiving(HANG, 200) as receiver:
        settings = settings_of(redis_url, receiver, webhook_timeout_s=0.5, lease_s=0.6)
        async with delivering(settings) as dying:
            await dying.end("a", receiver.url)
            await until(lambda: len(receiver.calls) == 1)
        async with delivering(settings) as other:
            await until(lambda: other.counted("delivered") == 1)
    assert [call.told["id"] for call in receiver.calls] == ["a", "a"]


@pytest.mark.slow
async def test_many_processes_tell_of_each_job_once(redis_url: str) -> None:
    async with receiving() as receiver:
        settings = settings_of(redis_url, receiver)
        async with delivering(settings) as first, delivering(settings) as second, delivering(settings) as third:
            sides = (first, second, third)
            for number in range(60):
                await submit(first.api, f"job-{number}", receiver.url)
            await asyncio.gather(*(first.api.producer.cancel(f"job-{number}", "x") for number in range(60)))
            await until(lambda: sum(side.counted("delivered") for side in sides) == 60)
            await asyncio.sleep(0.2)
    assert sorted(call.told["id"] for call in receiver.calls) == sorted(f"job-{number}" for number in range(60))
