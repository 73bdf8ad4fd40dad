"""Quotas as the kernel tells them, laid out in a folder; the cores are this machine's."""

import os
from pathlib import Path

import pytest

from service.core.cpu_quota import cpu_limit, threads_beside, threads_for

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine(root: Path, groups: str, **files: str) -> Path:
    """/proc/self/cgroup, and files by their path below /sys/fs/cgroup."""
    for name, text in {
        "proc/self/cgroup": groups,
        **{f"sys/fs/cgroup/{path}": text for path, text in files.items()},
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_without_a_quota_every_core_is_had(tmp_path: Path) -> None:
    assert cpu_limit(machine(tmp_path / "2", "0::/\n", **{"cpu.max": "max 100000\n"})) == CORES
    version_1 = {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}
    assert cpu_limit(machine(tmp_path / "1", "4:cpu,cpuacct:/\n", **version_1)) == CORES
    assert cpu_limit(tmp_path / "no Linux") == CORES


@pytest.mark.parametrize(("quota", "processors"), [("50000 100000", 0.5), ("100000 100000", 1.0), ("25000 50000", 0.5)])
def test_a_container_sees_its_own_group_at_the_top(tmp_path: Path, quota: str, processors: float) -> None:
    assert cpu_limit(machine(tmp_path, "0::/\n", **{"cpu.max": quota + "\n"})) == min(CORES, processors)


def test_the_first_version_of_the_interface(tmp_path: Path) -> None:
    # As in a container: the path is the host's, and nothing is there
    files = {"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}
    assert cpu_limit(machine(tmp_path, "5:memory:/docker/ab\n3:cpu,cpuacct:/docker/ab\n", **files)) == 0.5


def test_the_smallest_of_all_groups_above_counts(tmp_path: Path) -> None:
    files = {"a.slice/b.scope/cpu.max": "max 100000\n", "a.slice/cpu.max": "30000 100000\n"}
    assert cpu_limit(machine(tmp_path, "0::/a.slice/b.scope\n", **files)) == 0.3


@pytest.mark.parametrize("text", ["", "nonsense", "0 100000", "100000 0", "-5 100000", "1e5 100000"])
def test_what_is_no_quota_is_none(tmp_path: Path, text: str) -> None:
    assert cpu_limit(machine(tmp_path, "0::/\n", **{"cpu.max": text})) == CORES


def test_workers_of_one_process_tree_share_its_quota(tmp_path: Path) -> None:
    half = machine(tmp_path, "0::/\n", **{"cpu.max": f"{CORES * 50_000} 100000\n"})
    assert threads_for(1, half) == max(1, CORES // 2)
    assert threads_for(CORES, half) == 1, "never none"
    assert threads_for(0, half) == max(1, CORES // 2)


def test_workers_in_containers_share_the_cores_and_each_keeps_to_its_own_quota(tmp_path: Path) -> None:
    free = tmp_path / "no quota"
    assert threads_beside(1, free) == CORES
    assert threads_beside(2, free) == max(1, CORES // 2)
    one = machine(tmp_path, "0::/\n", **{"cpu.max": "100000 100000\n"})
    assert threads_beside(1, one) == 1 and threads_beside(2, one) == 1, "its own quota is not shared out again"
