"""The GPUs of this machine with their driver, as NVIDIA's library tells them; no torch is needed for it."""

from dataclasses import dataclass

from service.doctor.findings import Finding, note, ok

_CHECK = "gpu"
_GIB = 2**30


@dataclass(frozen=True)
class Gpu:
    """One of them."""

    name: str
    total_bytes: int
    used_bytes: int
    capability: str


@dataclass(frozen=True)
class Gpus:
    """All of them; `reason`: why there are none."""

    driver: str
    devices: tuple[Gpu, ...]
    reason: str = ""


def find_gpus() -> Gpus:
    """What NVIDIA's library tells; it raises nothing."""
    try:
        import pynvml
    except ImportError:
        return Gpus("", (), "the package nvidia-ml-py is not installed (extra `worker`)")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return Gpus("", (), f"no driver of NVIDIA answers: {error}")
    try:
        driver = pynvml.nvmlSystemGetDriverVersion()
        devices = []
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
            major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
            name = pynvml.nvmlDeviceGetName(handle)
            devices.append(Gpu(str(name), int(memory.total), int(memory.used), f"{major}.{minor}"))
        return Gpus(str(driver), tuple(devices), "" if devices else "the driver knows no GPU")
    except pynvml.NVMLError as error:
        return Gpus("", (), f"the driver does not tell: {error}")
    finally:
        pynvml.nvmlShutdown()


def told_gpus(found: Gpus) -> list[Finding]:
    """Whether one that a setting asks for can be used is told with the models."""
    if not found.devices:
        return [note(_CHECK, f"none: {found.reason}")]
    return [
        ok(
            _CHECK,
            f"cuda:{index}: {gpu.name}, {gpu.total_bytes / _GIB:.1f} GiB, {gpu.used_bytes / _GIB:.1f} in use, compute "
            f"capability {gpu.capability}, driver {found.driver}",
        )
        for index, gpu in enumerate(found.devices)
    ]
