"""Running out of memory: recognised, and survived."""

import torch

# Allocators and libraries that report it through a plain RuntimeError.
_SIGNS = ("DefaultCPUAllocator", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "CUDA out of memory")


def is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(sign in str(error) for sign in _SIGNS)


def release_memory(device: torch.device) -> None:
    """Give cached blocks back, so that the next allocation can be of another size."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
