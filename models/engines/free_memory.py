"""How much memory is left on a device: of the process' own limits the narrowest."""

from pathlib import Path

import torch

_CGROUP = Path("/sys/fs/cgroup")


def free_bytes(device: torch.device) -> int:
    """Bytes that can still be taken: what torch has in store counts as free."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return min(_available_bytes(), _left_in_cgroup_bytes())


def _available_bytes() -> int:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:  # no Linux: a laptop's usual size
        return 4 * 2**30
    values = dict(line.split(":", 1) for line in lines if ":" in line)
    return int(values["MemAvailable"].split()[0]) * 1024


def _left_in_cgroup_bytes() -> int:
    """Of a container's memory limit; more than any machine has where there is none."""
    try:
        limit = (_CGROUP / "memory.max").read_text(encoding="ascii").strip()
        used = (_CGROUP / "memory.current").read_text(encoding="ascii").strip()
    except OSError:
        return 2**62
    return 2**62 if limit == "max" else max(int(limit) - int(used), 0)
