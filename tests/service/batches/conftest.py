"""Files and batches on a real server."""

from collections.abc import AsyncIterator

import pytest

from service.batches.batch_store import BatchStore
from service.batches.files import Files
from service.core.settings import Settings
from service.redis.connection import RedisConnection, RedisServers


@pytest.fixture
async def files(servers: RedisServers, settings: Settings) -> AsyncIterator[Files]:
    store = Files(servers, settings)
    yield store
    await store.close()


@pytest.fixture
async def batches(servers: RedisServers, settings: Settings) -> AsyncIterator[BatchStore]:
    store = BatchStore(servers, settings)
    yield store
    await store.close()


@pytest.fixture
async def connection(servers: RedisServers) -> AsyncIterator[RedisConnection]:
    connected = RedisConnection(servers)
    yield connected
    await connected.close()
