"""How many rows of the UNet fit: what one takes is measured, never guessed."""

import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from models.engines.paint.batch import DenoisingBatch
from models.engines.paint.sampling import Sampling

# Of what is free after warm-up. A processor's memory belongs to others too.
DEVICE_SHARE, HOST_SHARE = 0.9, 0.5
KERNELS_SHARE = 1.3  # kernels' own buffers, which are no tensors

_CGROUP_FILES = (  # limit and use, of version 2 and version 1
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)


class _Tally(TorchDispatchMode):
    """Bytes of the tensors made and not yet freed, and the most that there were at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now_bytes = 0
        self.peak_bytes = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        ours = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if _has_storage(leaf)}
        for leaf in tree_leaves(result):
            if _has_storage(leaf) and leaf.untyped_storage()._cdata not in ours:
                self._count(leaf)
        return result

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata in self._alive:
            return
        self._alive.add(storage._cdata)
        self.now_bytes += storage.nbytes()
        self.peak_bytes = max(self.peak_bytes, self.now_bytes)
        weakref.finalize(storage, self._forget, storage._cdata, storage.nbytes())

    def _forget(self, key: int, num_bytes: int) -> None:
        self._alive.discard(key)
        self.now_bytes -= num_bytes


def _has_storage(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.layout == torch.strided


def peak_bytes(work: Callable[[], object]) -> int:
    """The most bytes of tensors that `work` holds at once, on any device."""
    with _Tally() as tally:
        work()
    return tally.peak_bytes


def free_bytes(device: torch.device, cgroup_files: Sequence[tuple[Path, Path]] = _CGROUP_FILES) -> int:
    """What the device, or the machine and this process' control group, has left for tensors."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int((free + unused) * DEVICE_SHARE)
    return int(min(_available_bytes(), _cgroup_bytes(cgroup_files)) * HOST_SHARE)


def _available_bytes() -> float:
    """Linux tells it; elsewhere nothing is known, and nothing limited."""
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    except OSError:
        return float(1 << 62)
    return float(next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))) * 1024


def _cgroup_bytes(files: Sequence[tuple[Path, Path]]) -> float:
    for limit_file, use_file in files:
        try:
            limit, use = limit_file.read_text("ascii").strip(), use_file.read_text("ascii").strip()
        except OSError:
            continue
        if limit != "max":
            return max(0.0, float(limit) - float(use))
    return float(1 << 62)


def row_bytes_per_latent(batch: DenoisingBatch, sampling: Sampling) -> float:
    """What one more row of the UNet takes, for each of its latents' places, in a step of this sampling."""
    rows, places = 2 * sampling.num_candidates, sampling.latents.shape[-2] * sampling.latents.shape[-1]
    return peak_bytes(lambda: batch.step([sampling])) * KERNELS_SHARE / (rows * places)
