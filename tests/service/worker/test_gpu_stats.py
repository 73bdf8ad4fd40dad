"""A GPU's numbers, and their absence: most machines have none."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from service.worker.gpu_stats import Device, DeviceUse, empty_device_cache

ROOT = Path(__file__).parents[3]


class NVMLError(Exception):
    pass


class Nvml:
    """NVIDIA's library as this module uses it, over two devices."""

    NVMLError = NVMLError

    def __init__(self, has_driver: bool = True) -> None:
        self.has_driver = has_driver
        self.is_lost = False

    def nvmlInit(self) -> None:
        if not self.has_driver:
            raise NVMLError("driver not loaded")

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        if index > 1:
            raise NVMLError("not found")
        return f"index {index}"

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        return uuid

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> SimpleNamespace:
        if self.is_lost:
            raise NVMLError("GPU is lost")
        self.asked = handle
        return SimpleNamespace(used=3 << 30, free=5 << 30)

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> SimpleNamespace:
        return SimpleNamespace(gpu=75)


class Cuda:
    """torch.cuda as this module uses it."""

    def __init__(self, uuid: str = "1234") -> None:
        self.uuid = uuid
        self.emptied = 0

    def is_available(self) -> bool:
        return bool(self.uuid)

    def memory_reserved(self, index: int) -> int:
        return 1000 + index

    def get_device_properties(self, index: int) -> SimpleNamespace:
        return SimpleNamespace(uuid=self.uuid)

    def empty_cache(self) -> None:
        self.emptied += 1


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Nvml:
    made = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", made)  # type: ignore[arg-type]
    return made


def with_torch(monkeypatch: pytest.MonkeyPatch, cuda: Cuda | None) -> None:
    torch: Any = None if cuda is None else SimpleNamespace(cuda=cuda)
    monkeypatch.setitem(sys.modules, "torch", torch)


def test_a_processor_has_no_such_numbers() -> None:
    assert Device("cpu").read() is None


@pytest.mark.parametrize("name", ["cuda:0", "cuda", "cuda:99"])
def test_without_a_driver_or_the_device_there_is_nothing_to_tell(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with_torch(monkeypatch, None)
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(has_driver=name == "cuda:99"))  # type: ignore[arg-type]
    assert Device(name).read() is None


def test_without_the_library_there_is_nothing_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # type: ignore[arg-type]
    assert Device("cuda:0").read() is None


def test_numbers_are_of_the_named_device(nvml: Nvml, monkeypatch: pytest.MonkeyPatch) -> None:
    with_torch(monkeypatch, None)
    assert Device("cuda:1").read() == DeviceUse(3 << 30, 5 << 30, 0, 0.75)
    assert nvml.asked == "index 1"
    Device("cuda").read()
    assert nvml.asked == "index 0"


@pytest.mark.parametrize("uuid", ["1234", "GPU-1234"])
def test_the_device_is_found_by_uuid_where_torch_may_count_otherwise(
    nvml: Nvml, monkeypatch: pytest.MonkeyPatch, uuid: str
) -> None:
    with_torch(monkeypatch, Cuda(uuid))
    use = Device("cuda:1").read()
    assert use is not None and use.reserved_bytes == 1001
    assert nvml.asked == "GPU-1234"


def test_a_device_that_is_lost_is_told_as_none(nvml: Nvml, monkeypatch: pytest.MonkeyPatch) -> None:
    with_torch(monkeypatch, None)
    device = Device("cuda:0")
    assert device.read() is not None
    nvml.is_lost = True
    assert device.read() is None


def test_the_cache_is_emptied_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with_torch(monkeypatch, None)
    empty_device_cache()
    for cuda, emptied in ((Cuda(uuid=""), 0), (Cuda(), 1)):
        with_torch(monkeypatch, cuda)
        empty_device_cache()
        assert cuda.emptied == emptied


def test_asking_never_loads_torch() -> None:
    code = (
        "import sys; from service.worker.gpu_stats import Device, empty_device_cache\n"
        "empty_device_cache(); Device('cuda:0').read(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
