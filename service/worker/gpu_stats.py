"""Memory and load of a worker's GPU. Nothing here needs a device, NVIDIA's library or torch."""

import sys
from typing import Any, NamedTuple


class DeviceUse(NamedTuple):
    """Of one GPU: memory in bytes over all processes, what this process' allocator holds, busy share 0..1."""

    used_bytes: int
    free_bytes: int
    reserved_bytes: int
    utilization: float


class Device:
    """Reads the GPU that `name` (as torch names it, such as `cuda:1`) stands for; `read` gives None without one."""

    def __init__(self, name: str) -> None:
        self._nvml: Any = None
        self._handle: Any = None
        kind, _, index = name.partition(":")
        if kind != "cuda":
            return
        self.index = int(index or 0)
        try:
            import pynvml

            pynvml.nvmlInit()
            self._handle = self._find(pynvml)
        except Exception:  # no library, no driver, no such device: then there is nothing to tell
            return
        self._nvml = pynvml

    def read(self) -> DeviceUse | None:
        if self._nvml is None:
            return None
        try:
            memory = self._nvml.nvmlDeviceGetMemoryInfo(self._handle)
            utilization = self._nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu / 100
        except self._nvml.NVMLError:
            return None
        torch = _torch()
        reserved_bytes = torch.cuda.memory_reserved(self.index) if torch is not None else 0
        return DeviceUse(int(memory.used), int(memory.free), int(reserved_bytes), utilization)

    def _find(self, nvml: Any) -> Any:
        """By UUID where torch knows it, since CUDA_VISIBLE_DEVICES renumbers devices for torch and not for NVML."""
        torch = _torch()
        if torch is not None and torch.cuda.is_available():
            uuid = str(torch.cuda.get_device_properties(self.index).uuid)
            return nvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith("GPU-") else f"GPU-{uuid}")
        return nvml.nvmlDeviceGetHandleByIndex(self.index)


def empty_device_cache() -> None:
    """Hand memory that the allocator holds and does not use back to the device."""
    torch = _torch()
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _torch() -> Any:
    """torch if this process' engine has loaded it: this side never imports it."""
    return sys.modules.get("torch")
