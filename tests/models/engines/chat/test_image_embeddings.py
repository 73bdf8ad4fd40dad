"""The engine's own cache of image embeddings, and their bytes."""

import pytest
import torch

from models.engines.chat.image_embeddings import ImageEmbeddingCache, from_bytes, to_bytes

CPU = torch.device("cpu")


def embeddings(value: int) -> torch.Tensor:
    return torch.full((4, 8), float(value))  # 128 bytes


def test_least_recently_used_goes_first() -> None:
    cache = ImageEmbeddingCache(limit_bytes=300)
    cache.put("a", embeddings(1))
    cache.put("b", embeddings(2))
    assert cache.get("a") is not None  # now b is the older one
    cache.put("c", embeddings(3))
    assert ("a" in cache, "b" in cache, "c" in cache) == (True, False, True)
    assert (len(cache), cache.size_bytes) == (2, 256)
    assert cache.get("b") is None


def test_replacing_a_state_counts_it_once() -> None:
    cache = ImageEmbeddingCache(limit_bytes=300)
    cache.put("a", embeddings(1))
    cache.put("a", embeddings(2))
    held = cache.get("a")
    assert held is not None and held[0, 0] == 2
    assert cache.size_bytes == 128


def test_one_state_always_fits() -> None:
    cache = ImageEmbeddingCache(limit_bytes=0)
    cache.put("a", embeddings(1))
    cache.put("b", embeddings(2))
    assert ("a" in cache, "b" in cache) == (False, True)
    cache.clear()
    assert (len(cache), cache.size_bytes) == (0, 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_bytes_hold_every_bit(dtype: torch.dtype) -> None:
    original = torch.randn(4, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    data = to_bytes(original.t().contiguous().t())  # not contiguous
    assert len(data) == 32 * dtype.itemsize
    restored = from_bytes(data, (4, 8), dtype, CPU)
    assert restored is not None and restored.dtype == dtype
    assert torch.equal(restored, original)
    assert from_bytes(data[:-1], (4, 8), dtype, CPU) is None
