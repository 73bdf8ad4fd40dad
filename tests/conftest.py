"""Fixtures shared by all tests: a real server of the Redis protocol."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis
import redis.asyncio

from service.process.embedded_redis import EmbeddedServer
from service.queue.connection import open_redis


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_url(shared_server: EmbeddedServer) -> str:
    """A running server, emptied for this test."""
    with redis.Redis.from_url(shared_server.url, protocol=3) as client:
        client.flushall()
        client.config_set("maxmemory", 0)
    return shared_server.url


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A server of this test's own, to be stopped, killed and started again."""
    server = EmbeddedServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator["redis.asyncio.Redis"]:
    async with open_redis(redis_url) as connected:
        yield connected
