"""How much memory is left on a device: of the process' own limits the narrowest."""

import ctypes
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

_CGROUP_FILES = (  # limit and use, of version 2 and version 1
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)
_UNLIMITED = 1 << 62


def free_bytes(device: torch.device, cgroup_files: Sequence[tuple[Path, Path]] = _CGROUP_FILES) -> int:
    """What the device, or the machine and this process' control group, has left; what torch has in store counts."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        allocated = torch.cuda.memory_allocated(device)
        allowed = int(total * torch.cuda.get_per_process_memory_fraction(device))
        return max(min(free + torch.cuda.memory_reserved(device), allowed) - allocated, 0)
    return min(_available_bytes(), _left_in_cgroup_bytes(cgroup_files))


def trim_heap() -> None:
    """Gives freed memory of this process back to the system, where the C library is one that keeps it (glibc)."""
    library = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)  # type: ignore[union-attr]


def _available_bytes() -> int:
    """Linux tells it; elsewhere a laptop's usual size is taken for it."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return 4 * 2**30
    return int(next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))) * 1024


def _left_in_cgroup_bytes(files: Sequence[tuple[Path, Path]]) -> int:
    for limit_file, use_file in files:
        try:
            limit, use = limit_file.read_text(encoding="ascii").strip(), use_file.read_text(encoding="ascii").strip()
        except OSError:
            continue
        if limit != "max":
            return max(int(limit) - int(use), 0)
    return _UNLIMITED
