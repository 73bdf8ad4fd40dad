"""Image embeddings (SPEC §5: a picture as Q rows of the language model's width): those kept, and their bytes."""

from collections import OrderedDict

import torch
from torch import Tensor


class ImageEmbeddingCache:
    """Least recently used pictures are dropped once their sum is over `limit_bytes`; one picture always fits."""

    def __init__(self, limit_bytes: int) -> None:
        self.size_bytes = 0
        self._limit_bytes = limit_bytes
        self._embeddings: OrderedDict[str, Tensor] = OrderedDict()

    def __contains__(self, key: str) -> bool:
        return key in self._embeddings

    def __len__(self) -> int:
        return len(self._embeddings)

    def values(self) -> list[Tensor]:
        """All that are kept."""
        return list(self._embeddings.values())

    def get(self, key: str) -> Tensor | None:
        if key in self._embeddings:
            self._embeddings.move_to_end(key)
        return self._embeddings.get(key)

    def put(self, key: str, embeddings: Tensor) -> None:
        self._drop(key)
        self._embeddings[key] = embeddings
        self.size_bytes += embeddings.nbytes
        while self.size_bytes > self._limit_bytes and len(self._embeddings) > 1:
            self._drop(next(iter(self._embeddings)))

    def clear(self) -> None:
        self._embeddings.clear()
        self.size_bytes = 0

    def _drop(self, key: str) -> None:
        if key in self._embeddings:
            self.size_bytes -= self._embeddings.pop(key).nbytes


def to_bytes(embeddings: Tensor) -> bytes:
    """The raw values, row-major, in the tensor's dtype."""
    return embeddings.contiguous().cpu().view(torch.uint8).numpy().tobytes()


def from_bytes(data: bytes, shape: tuple[int, int], dtype: torch.dtype, device: torch.device) -> Tensor | None:
    """The inverse of `to_bytes`, or None when the size is not that of `shape` in `dtype`."""
    if len(data) != shape[0] * shape[1] * dtype.itemsize:
        return None
    return torch.frombuffer(bytearray(data), dtype=dtype).view(shape).to(device)
