"""The app over HTTP, in front of one real chat and one real paint worker that all these tests share."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from service.embedded import EmbeddedServer
from service.settings import Settings
from tests.service.tree import WorkerProcess, quick_settings
from tests.service.web import Service, serving


@pytest.fixture(scope="session")
def worker_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workers") / "engine.log"


@pytest.fixture(scope="session")
def worker_settings() -> dict[str, object]:
    return {"paint_engine": "tests.service.painter:create_engine"}


@pytest.fixture(scope="session")
def shared_workers(
    shared_server: EmbeddedServer, worker_log: Path, worker_settings: dict[str, object]
) -> Iterator[None]:
    settings = quick_settings(shared_server.url, **worker_settings)
    workers = [WorkerProcess(settings, worker_log, kind, step_s=0.002) for kind in ("chat", "paint")]
    yield
    for worker in workers:
        worker.kill()


@pytest.fixture
def settings(redis_url: str, shared_workers: None, worker_settings: dict[str, object]) -> Settings:
    return quick_settings(redis_url, **worker_settings)


@pytest.fixture
async def service(settings: Settings) -> AsyncIterator[Service]:
    async with serving(settings) as served:
        await served.ready()
        yield served
