"""Free memory: of the machine, or of a container that has less."""

import sys
from pathlib import Path

import pytest
import torch

from models.engines.free_memory import free_bytes, trim_heap

CPU = torch.device("cpu")


def test_it_is_no_more_than_the_machine_has() -> None:
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        pytest.skip("Linux: tells of its memory in /proc")
    total = int(meminfo.read_text(encoding="ascii").split()[1]) * 1024
    assert 0 < free_bytes(CPU, []) <= total


def test_a_control_groups_limit_counts(tmp_path: Path) -> None:
    limit, use = tmp_path / "memory.max", tmp_path / "memory.current"
    limit.write_text("3000000\n")
    use.write_text("1000000\n")
    none = (tmp_path / "none", tmp_path / "none")
    assert free_bytes(CPU, [none, (limit, use)]) == 2000000
    use.write_text("4000000\n")
    assert free_bytes(CPU, [(limit, use)]) == 0
    limit.write_text("max\n")
    assert free_bytes(CPU, [(limit, use)]) > 4000000
    assert free_bytes(CPU, [none]) > 4000000


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA: needs a GPU")
def test_a_gpus_free_memory_counts() -> None:
    assert free_bytes(torch.device("cuda")) > 100 * 2**20


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux: tells of its memory in /proc")
def test_freed_memory_goes_back_to_the_system() -> None:
    def resident_bytes() -> int:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("RssAnon:"))) * 1024

    blocks = [torch.ones(2**14) for _ in range(2000)]  # 64 KiB each: the C library keeps those
    kept = blocks[::100]  # among them, so that the heap cannot shrink
    before = resident_bytes()
    blocks.clear()
    trim_heap()
    assert resident_bytes() < before - 60e6
    assert len(kept) == 20
