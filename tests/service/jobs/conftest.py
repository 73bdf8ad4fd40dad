"""One API process and the workers' side, over a real server."""

from collections.abc import AsyncIterator

import pytest

from service.core.settings import Settings
from service.redis.connection import RedisServers
from tests.service.jobs.rig import ApiProcess, WordScreens, WorkerSide, api_process


@pytest.fixture
def screens() -> WordScreens:
    return WordScreens()


@pytest.fixture
async def api(servers: RedisServers, settings: Settings, screens: WordScreens) -> AsyncIterator[ApiProcess]:
    async with api_process(servers, settings, screens) as process:
        yield process


@pytest.fixture
async def chat_worker(servers: RedisServers, settings: Settings) -> AsyncIterator[WorkerSide]:
    worker = WorkerSide(servers, settings, "chat")
    yield worker
    await worker.close()


@pytest.fixture
async def paint_worker(servers: RedisServers, settings: Settings) -> AsyncIterator[WorkerSide]:
    worker = WorkerSide(servers, settings, "paint")
    yield worker
    await worker.close()
