"""The device that an engine is to use: there, or refused in one line that says what is missing."""

import warnings

import torch

_NEEDS = (
    "torch's usual builds are for CUDA 13, which needs a driver of R580 or newer and a GPU newer than Volta "
    "(docs/operations/deployment.md, GPUs)"
)


class DeviceUnusable(RuntimeError):
    """The message is one line."""


def usable_device(name: str) -> torch.device:
    """`cpu`, `cuda`, `cuda:1`. Raises DeviceUnusable where torch cannot compute on it."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DeviceUnusable(f"device {name!r} is unknown; cpu, cuda or cuda:1 and the like are allowed") from None
    if device.type == "cuda":
        _check_cuda(name, device.index or 0)
    return device


def _check_cuda(name: str, index: int) -> None:
    if torch.version.cuda is None:
        raise DeviceUnusable(f"device {name!r}: this torch, {torch.__version__}, is built without CUDA")
    with warnings.catch_warnings():  # the reason comes as a warning of several lines
        warnings.simplefilter("ignore")
        num_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if num_devices == 0:
        raise DeviceUnusable(f"device {name!r}: torch {torch.__version__} finds no usable GPU; {_NEEDS}")
    if index >= num_devices:
        raise DeviceUnusable(f"device {name!r}: there are {num_devices} GPUs, counted from 0")
    capability = torch.cuda.get_device_capability(index)
    if not is_built_for(capability, torch.cuda.get_arch_list()):
        raise DeviceUnusable(
            f"device {name!r}, of compute capability {capability[0]}.{capability[1]}: torch {torch.__version__} has no "
            f"code for it; {_NEEDS}"
        )


def is_built_for(capability: tuple[int, int], architectures: list[str]) -> bool:
    """Whether one of torch's architectures runs there: code of the same generation, or such as is compiled on it."""
    wanted = capability[0] * 10 + capability[1]
    for architecture in architectures:
        kind, _, digits = architecture.partition("_")
        number = int(digits.rstrip("af") or 0)  # sm_90a
        if number <= wanted and (kind == "compute" or number // 10 == capability[0]):
            return True
    return not architectures
