"""Engines with a device of their own, and such as share one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.checkpoints.tiny import write_tiny_checkpoints
from models.jobs import DeviceTurns, Kind
from tests.models.engines.turns.sides import JOBS, Side


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("turns") / "checkpoints"
    write_tiny_checkpoints(folder, seed=0, eos_scale=0.0)
    return folder


@pytest.fixture(scope="session")
def alone(checkpoints: Path) -> dict[str, Any]:
    """The answers of JOBS, of engines that have their device for themselves."""
    return alone_on("cpu", checkpoints)


def alone_on(device: str, checkpoints: Path) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for kind, jobs in JOBS.items():
        side = Side(kind, checkpoints, None, device)
        for job in jobs:
            side.engine.admit(job)
        while len(side.endings) < len(jobs):
            side.step()
        answers |= side.answers()
    return answers


@pytest.fixture
def alone_on_gpu(checkpoints: Path) -> dict[str, Any]:
    return alone_on("cuda", checkpoints)


@pytest.fixture
def make_side(checkpoints: Path, tmp_path: Path) -> Callable[..., Side]:
    """At the test's device, with settings of DeviceTurns."""

    def make(kind: Kind, device: str = "cpu", **settings: Any) -> Side:
        return Side(kind, checkpoints, DeviceTurns(lock_dir=str(tmp_path / "locks"), **settings), device)

    return make
