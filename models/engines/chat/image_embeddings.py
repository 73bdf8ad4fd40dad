"""Vision states (SPEC §5: a picture as Q rows of the language model's width) that the engine keeps, and their bytes."""

from collections import OrderedDict

import torch
from torch import Tensor


class VisionStates:
    """Least recently used states are dropped once their sum is over `limit_bytes`; one state always fits."""

    def __init__(self, limit_bytes: int) -> None:
        self.size_bytes = 0
        self._limit_bytes = limit_bytes
        self._states: OrderedDict[str, Tensor] = OrderedDict()

    def __contains__(self, key: str) -> bool:
        return key in self._states

    def __len__(self) -> int:
        return len(self._states)

    def get(self, key: str) -> Tensor | None:
        if key in self._states:
            self._states.move_to_end(key)
        return self._states.get(key)

    def put(self, key: str, states: Tensor) -> None:
        self._drop(key)
        self._states[key] = states
        self.size_bytes += states.nbytes
        while self.size_bytes > self._limit_bytes and len(self._states) > 1:
            self._drop(next(iter(self._states)))

    def clear(self) -> None:
        self._states.clear()
        self.size_bytes = 0

    def _drop(self, key: str) -> None:
        if key in self._states:
            self.size_bytes -= self._states.pop(key).nbytes


def to_bytes(states: Tensor) -> bytes:
    """The raw values, row-major, in the tensor's dtype."""
    return states.contiguous().cpu().view(torch.uint8).numpy().tobytes()


def from_bytes(data: bytes, shape: tuple[int, int], dtype: torch.dtype, device: torch.device) -> Tensor | None:
    """The inverse of `to_bytes`, or None when the size is not that of `shape` in `dtype`."""
    if len(data) != shape[0] * shape[1] * dtype.itemsize:
        return None
    return torch.frombuffer(bytearray(data), dtype=dtype).view(shape).to(device)
