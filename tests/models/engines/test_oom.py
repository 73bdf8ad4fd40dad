"""Running out of memory: told apart from other failures."""

import pytest
import torch

from models.engines.oom import is_out_of_memory, release_memory

CPU_ALLOCATOR = "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory"


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("anything"),
        MemoryError(),
        RuntimeError(CPU_ALLOCATOR),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    ],
)
def test_every_way_of_reporting_it_is_known(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        torch.AcceleratorError("CUDA error: unspecified launch failure"),
        ValueError(),
    ],
)
def test_other_failures_are_not_taken_for_it(error: Exception) -> None:
    """They would be tried again, on a device that is lost."""
    assert not is_out_of_memory(error)


def test_what_torch_really_raises_is_known() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(raised.value)


def test_a_cpu_has_nothing_to_give_back() -> None:
    release_memory(torch.device("cpu"))
    assert not torch.cuda.is_initialized(), "and no CUDA context is made for it"
