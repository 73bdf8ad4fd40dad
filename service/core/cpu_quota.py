"""How many processors this process may use: its cores, and less where its control group has a quota.

A container that was given `cpus: 1` still sees every core of its host, and a model that starts a thread for each of
them is stopped by the kernel for most of the time.
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_ROOT = Path("/")


def cpu_limit(root: Path = _ROOT) -> float:
    """Processors, at least a little more than 0: the smallest of the cores and of all quotas over this process.

    Args:
        root: of the file system that /proc and /sys/fs/cgroup are read from.
    """
    return min([float(_num_cores()), *_quotas(root)])


def threads_for(workers: int, root: Path = _ROOT) -> int:
    """Threads for each of several workers that share the processors of this process, at least 1."""
    return max(1, int(cpu_limit(root) / max(1, workers)))


def threads_beside(host_workers: int, root: Path = _ROOT) -> int:
    """Threads, at least 1, for one of so many workers that share the machine, each with a quota of its own or none."""
    return max(1, int(min(_num_cores() / max(1, host_workers), cpu_limit(root))))


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(root: Path) -> Iterator[float]:
    """Of this process' control group and of all above it, by either version of the kernel's interface."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            mount = root / "sys/fs/cgroup"
        elif "cpu" in controllers.split(","):
            mount = root / "sys/fs/cgroup" / ("cpu" if (root / "sys/fs/cgroup/cpu").is_dir() else controllers)
        else:
            continue
        # In a container the path is often the host's, and what is mounted is the own group
        group = PurePosixPath(path.lstrip("/"))
        for folder in {mount / group, *(mount / parent for parent in group.parents), mount}:
            yield from _quota(folder)


def _quota(folder: Path) -> Iterator[float]:
    quota, _, period = _read(folder / "cpu.max").strip().partition(" ")  # version 2: "max 100000"
    if not quota:
        quota, period = (_read(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))  # version 1
    if quota.isdigit() and period.isdigit() and int(quota) > 0 and int(period) > 0:  # not "max", not -1
        yield int(quota) / int(period)


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, ValueError):
        return ""
