"""Free memory: of the machine, or of a container that has less."""

from pathlib import Path

import pytest
import torch

from models.engines import free_memory
from models.engines.free_memory import free_bytes


def test_it_is_what_the_machine_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(free_memory, "_CGROUP", tmp_path)
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        pytest.skip("Linux: tells of its memory in /proc")
    total = int(meminfo.read_text(encoding="ascii").split()[1]) * 1024
    assert 0 < free_bytes(torch.device("cpu")) <= total


def test_a_containers_limit_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(free_memory, "_CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("3000000\n", encoding="ascii")
    (tmp_path / "memory.current").write_text("1000000\n", encoding="ascii")
    assert free_bytes(torch.device("cpu")) == 2000000
    (tmp_path / "memory.current").write_text("4000000\n", encoding="ascii")
    assert free_bytes(torch.device("cpu")) == 0
    (tmp_path / "memory.max").write_text("max\n", encoding="ascii")
    assert free_bytes(torch.device("cpu")) > 4000000
