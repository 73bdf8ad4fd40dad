"""One API process and the workers' side, over a real server."""

from collections.abc import AsyncIterator

import pytest
import redis.asyncio

from service.core.settings import Settings
from tests.service.jobs.rig import ApiProcess, WordScreens, WorkerSide, api_process


@pytest.fixture
def screens() -> WordScreens:
    return WordScreens()


@pytest.fixture
async def api(client: "redis.asyncio.Redis", settings: Settings, screens: WordScreens) -> AsyncIterator[ApiProcess]:
    async with api_process(client, settings, screens) as process:
        yield process


@pytest.fixture
async def chat_worker(client: "redis.asyncio.Redis", settings: Settings) -> AsyncIterator[WorkerSide]:
    worker = WorkerSide(client, settings, "chat")
    yield worker
    await worker.close()


@pytest.fixture
async def paint_worker(client: "redis.asyncio.Redis", settings: Settings) -> AsyncIterator[WorkerSide]:
    worker = WorkerSide(client, settings, "paint")
    yield worker
    await worker.close()
