"""How many rows of the UNet fit: what one takes is measured, never guessed."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from models.engines.free_memory import free_bytes
from models.engines.paint.batch import DenoisingBatch
from models.engines.paint.sampling import Sampling

# Of what is free after warm-up. A processor's memory belongs to others too.
DEVICE_SHARE, HOST_SHARE = 0.9, 0.5
KERNELS_SHARE = 1.3  # kernels' own buffers, which are no tensors


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


def row_budget_bytes(device: torch.device) -> int:
    """What the UNet's rows may take of what the device has left."""
    return int(free_bytes(device) * (DEVICE_SHARE if device.type == "cuda" else HOST_SHARE))


def row_bytes_per_latent(batch: DenoisingBatch, sampling: Sampling) -> float:
    """What one more row of the UNet takes, for each of its latents' places, in a step of this sampling."""
    rows, places = 2 * sampling.num_candidates, sampling.latents.shape[-2] * sampling.latents.shape[-1]
    return peak_bytes(lambda: batch.step([sampling])) * KERNELS_SHARE / (rows * places)
