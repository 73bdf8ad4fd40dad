"""A machine's set-up that is in order, for tests to break one thing of."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from models.checkpoints.bundled import bundled_checkpoint
from models.jobs import Model
from service.doctor.cli import main
from tests.redis_servers import RedisProcess

Report = dict[str, Any]
Doctor = Callable[..., tuple[int, Report]]


@pytest.fixture(autouse=True)
def in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of whoever runs the tests; no model, so that no test but those of models loads torch."""
    for name in os.environ:
        if name.startswith("VISCPM_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    for name, value in {"PORT": "0", "CHAT_WORKERS": "0", "PAINT_WORKERS": "0", "DATA_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(f"VISCPM_{name}", value)


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Doctor:
    """`viscpm doctor --json` with these variables (without VISCPM_): its exit code and its report."""

    def run(*arguments: str, **variables: str) -> tuple[int, Report]:
        for name, value in variables.items():
            monkeypatch.setenv(f"VISCPM_{name}", value)
        code = main(["--json", *arguments])
        report: Report = json.loads(capsys.readouterr().out)
        return code, report

    return run


@pytest.fixture
def start_redis(tmp_path: Path) -> Iterator[Callable[..., RedisProcess]]:
    started: list[RedisProcess] = []

    def start(*options: str, password: str = "") -> RedisProcess:
        started.append(RedisProcess(tmp_path / "redis", *options, password=password))
        return started[-1]

    yield start
    for server in started:
        server.kill()


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[Model], Path]:
    """A copy of a bundled checkpoint, to take something out of."""
    return lambda kind: Path(shutil.copytree(bundled_checkpoint(kind), tmp_path / kind))
