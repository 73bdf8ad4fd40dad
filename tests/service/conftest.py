"""Worker processes for tests, none of which outlives its test."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from service.core.settings import Settings
from service.redis.scripts import read_scripts, use_scripts
from tests.service.faults import TaskFaults
from tests.service.redis.declared_keys import PRELUDE
from tests.service.tree import ApiSide, WorkerProcess, api_side, quick_settings


@pytest.fixture(scope="session", autouse=True)
def scripts_use_their_keys_alone() -> None:
    """In every test of this folder a script fails where it uses a key that it was not handed."""
    use_scripts(read_scripts(PRELUDE))


@pytest.fixture
def settings(redis_url: str) -> Settings:
    return quick_settings(redis_url)


@pytest.fixture
def engine_log(tmp_path: Path) -> Path:
    return tmp_path / "engine.log"


@pytest.fixture
def start_worker(settings: Settings, engine_log: Path) -> Iterator[Callable[..., WorkerProcess]]:
    """Starts a worker; by default for the test's server and settings."""
    started: list[WorkerProcess] = []

    def start(used: Settings = settings, **options: object) -> WorkerProcess:
        started.append(WorkerProcess(used, engine_log, **options))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for worker in started:
        worker.kill()


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[ApiSide]:
    async with api_side(settings) as side:
        yield side


@pytest.fixture
def task_faults(monkeypatch: pytest.MonkeyPatch) -> TaskFaults:
    return TaskFaults(monkeypatch)
