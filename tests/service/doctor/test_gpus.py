"""GPUs as they are told; where there are none, why."""

import sys
from types import SimpleNamespace

import pytest

from service.doctor.gpus import Gpu, Gpus, find_gpus, told_gpus


def test_what_is_told() -> None:
    found = Gpus("580.65", (Gpu("NVIDIA H200", 141 * 2**30, 2**30, "9.0"),))
    [told] = told_gpus(found)
    assert (told.level, told.found) == (
        "ok",
        "cuda:0: NVIDIA H200, 141.0 GiB, 1.0 in use, compute capability 9.0, driver 580.65",
    )
    [told] = told_gpus(Gpus("", (), "no driver"))
    assert (told.level, told.found) == ("note", "none: no driver")


class NVMLError(Exception):
    pass


class Nvml:
    """NVIDIA's library as this module uses it, over two devices."""

    NVMLError = NVMLError

    def __init__(self, error: str = "") -> None:
        self.error = error
        self.is_open = False

    def nvmlInit(self) -> None:
        if self.error:
            raise NVMLError(self.error)
        self.is_open = True

    def nvmlShutdown(self) -> None:
        self.is_open = False

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.65"

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, handle: int) -> str:
        return f"NVIDIA L{handle}"

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:
        return SimpleNamespace(total=24 << 30, used=handle << 30)

    def nvmlDeviceGetCudaComputeCapability(self, handle: int) -> tuple[int, int]:
        return 8, 9


def test_every_gpu_of_the_driver_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    found = find_gpus()
    assert (found.driver, found.reason) == ("580.65", "")
    assert found.devices == tuple(Gpu(f"NVIDIA L{index}", 24 << 30, index << 30, "8.9") for index in range(2))
    assert not nvml.is_open
    monkeypatch.setitem(sys.modules, "pynvml", Nvml("driver not loaded"))
    assert find_gpus() == Gpus("", (), "no driver of NVIDIA answers: driver not loaded")


def test_this_machine() -> None:
    """Whatever it has, it is told, and agrees with torch."""
    torch = pytest.importorskip("torch")
    found = find_gpus()
    if torch.cuda.is_available():
        assert found.driver and len(found.devices) >= torch.cuda.device_count()
    else:
        assert not found.devices and found.reason
