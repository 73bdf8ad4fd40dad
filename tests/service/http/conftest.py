"""The app over HTTP, in front of one real chat and one real paint worker that all these tests share."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
import redis

from service.core.settings import Settings
from service.process.embedded_redis import EmbeddedServer
from tests.service.tree import WorkerProcess, quick_settings
from tests.service.web import Service, serving


@pytest.fixture(scope="session")
def worker_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workers") / "engine.log"


@pytest.fixture(scope="session")
def worker_settings() -> dict[str, object]:
    """Heartbeats come often: each test waits for the workers' next ones on its emptied server."""
    return {"paint_engine": "tests.service.painter:create_engine", "heartbeat_s": 0.05}


@pytest.fixture(scope="session")
def routes_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """Apart from the other tests' server, where no worker may be that a test has not started."""
    with EmbeddedServer(tmp_path_factory.mktemp("routes-redis")) as server:
        yield server


@pytest.fixture(scope="session")
def shared_workers(
    routes_server: EmbeddedServer, worker_log: Path, worker_settings: dict[str, object]
) -> Iterator[None]:
    settings = quick_settings(routes_server.url, **worker_settings)
    workers = [WorkerProcess(settings, worker_log, kind, step_s=0.002) for kind in ("chat", "paint")]
    yield
    for worker in workers:
        worker.kill()


@pytest.fixture
def redis_url(routes_server: EmbeddedServer) -> str:
    """The server of these tests, emptied."""
    with redis.Redis.from_url(routes_server.url, protocol=3) as client:
        client.flushall()
    return routes_server.url


@pytest.fixture
def settings(redis_url: str, shared_workers: None, worker_settings: dict[str, object]) -> Settings:
    return quick_settings(redis_url, **worker_settings)


@pytest.fixture
async def service(settings: Settings) -> AsyncIterator[Service]:
    async with serving(settings) as served:
        await served.ready()
        yield served


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_service(
    routes_server: EmbeddedServer, shared_workers: None, worker_settings: dict[str, object]
) -> AsyncIterator[Service]:
    """One app for all tests of a file that leave nothing behind which another would see."""
    with redis.Redis.from_url(routes_server.url, protocol=3) as client:
        client.flushall()
    async with serving(quick_settings(routes_server.url, **worker_settings)) as served:
        await served.ready()
        yield served


@pytest_asyncio.fixture(loop_scope="module")
async def recounted_service(module_service: Service) -> Service:
    """The same, for tests that look at what was counted since they began."""
    await module_service.redis.delete("{viscpm}:accounting")
    return module_service


@pytest.fixture
def patient_scrapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker on a busy machine may take longer than the half second for which a scrape waits."""
    monkeypatch.setattr("service.http.scrape.WORKER_TIMEOUT_S", 10.0)


@pytest.fixture
def audit_file(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture
def guarded_settings(settings: Settings, audit_file: Path) -> Settings:
    """With its screens: rules here, pictures judged by the worker of `start_safety`."""
    changed = {
        "safety": "on",
        "safety_engine": "tests.service.image_input.colours:create_engine",
        "safety_deadline_s": 5.0,
        "safety_audit_file": str(audit_file),
    }
    return settings.model_copy(update=changed)


@pytest.fixture
def start_safety(guarded_settings: Settings, worker_log: Path) -> Iterator[Callable[[], WorkerProcess]]:
    started: list[WorkerProcess] = []

    def start() -> WorkerProcess:
        started.append(WorkerProcess(guarded_settings, worker_log, "safety"))
        return started[-1]

    yield start
    for worker in started:
        worker.kill()


@pytest.fixture
async def guarded(guarded_settings: Settings, start_safety: Callable[[], WorkerProcess]) -> AsyncIterator[Service]:
    """With a safety worker, ready."""
    start_safety()
    async with serving(guarded_settings) as service:
        await service.ready()
        yield service
