"""Where a worker's tensors are during its turn, and where meanwhile: a GPU and page-locked host memory, or, on a
processor, two places of the same memory, of which one is counted as the device's."""

import logging
import os
from contextlib import suppress
from typing import Protocol

import torch
from torch import Tensor

logger = logging.getLogger(__name__)


class Placement(Protocol):
    """One device."""

    device: torch.device
    name: str  # the same for every process of the machine
    total_bytes: int

    def place(self, tensor: Tensor) -> Tensor:
        """The tensor in memory of the device's own, which can be freed."""

    def host_memory(self, num_bytes: int) -> Tensor:
        """(num_bytes,) uint8 for weights, for good."""

    def host_copy(self, tensor: Tensor) -> Tensor:
        """What a tensor on the device holds, for one absence."""

    def settle(self) -> None:
        """Wait for copies, and give what is free back to the device."""


class HostPlacement:
    """A processor's memory, of which `total_bytes` count as the device."""

    def __init__(self, device: torch.device, total_bytes: int = 0) -> None:
        self.device = device
        self.name = device.type
        self.total_bytes = total_bytes or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    def place(self, tensor: Tensor) -> Tensor:
        return tensor.clone()  # a mapped file cannot be freed

    def host_memory(self, num_bytes: int) -> Tensor:
        return torch.empty(num_bytes, dtype=torch.uint8)

    def host_copy(self, tensor: Tensor) -> Tensor:
        return tensor.clone()

    def settle(self) -> None:
        """Nothing is under way."""


class CudaPlacement:
    """A GPU, by its UUID: containers number the same devices differently."""

    def __init__(self, device: torch.device, total_bytes: int = 0) -> None:
        self.device = torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
        properties = torch.cuda.get_device_properties(self.device)
        self.name = f"cuda-{properties.uuid}"
        self.total_bytes = total_bytes or properties.total_memory

    def place(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device)

    def host_memory(self, num_bytes: int) -> Tensor:
        """Page-locked where that is allowed: as one piece, for torch's own allocator doubles what is no power of 2."""
        memory = torch.empty(num_bytes, dtype=torch.uint8)
        error = torch.cuda.cudart().cudaHostRegister(memory.data_ptr(), num_bytes, 0) if num_bytes else 0
        if int(error):
            with suppress(RuntimeError):  # torch would take the next launch for the one that failed
                torch.zeros(1, device=self.device)
            logger.warning("%.1f GB cannot be page-locked (error %d): turns take longer", num_bytes / 1e9, int(error))
        return memory

    def host_copy(self, tensor: Tensor) -> Tensor:
        copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        return copy.copy_(tensor, non_blocking=True)

    def settle(self) -> None:
        torch.cuda.synchronize(self.device)
        torch.cuda.empty_cache()


def placement_of(device: torch.device, total_bytes: int = 0) -> Placement:
    """Of a device, of which `total_bytes` may be taken; 0: all that it has."""
    return CudaPlacement(device, total_bytes) if device.type == "cuda" else HostPlacement(device, total_bytes)
