"""A worker for the app under attack, which does not outlive its test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.tree import WorkerProcess, quick_settings


@pytest.fixture
def worker(redis_url: str, tmp_path: Path) -> Iterator[WorkerProcess]:
    started = WorkerProcess(quick_settings(redis_url), tmp_path / "engine.log")
    yield started
    started.kill()
