"""Devices that torch has, and one line for those it has not."""

import pytest
import torch

from models.engines.device import DeviceUnusable, is_built_for, usable_device

CUDA_13 = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]


def test_the_processor_is_always_there() -> None:
    assert usable_device("cpu") == torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA: this machine has it")
@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_cuda_without_a_gpu_is_one_line(name: str) -> None:
    with pytest.raises(DeviceUnusable) as refused:
        usable_device(name)
    message = str(refused.value)
    assert "\n" not in message and message.startswith(f"device {name!r}: ")
    assert ("built without CUDA" in message) if torch.version.cuda is None else ("R580 or newer" in message)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA: none on this machine")
def test_a_gpu_too_many_is_counted() -> None:
    assert usable_device("cuda:0").type == "cuda"
    with pytest.raises(DeviceUnusable, match=f"there are {torch.cuda.device_count()} GPUs, counted from 0"):
        usable_device(f"cuda:{torch.cuda.device_count()}")


def test_an_unknown_device_is_named() -> None:
    with pytest.raises(DeviceUnusable, match="device 'gpu' is unknown; cpu, cuda or cuda:1"):
        usable_device("gpu")


@pytest.mark.parametrize(
    ("capability", "runs"),
    [
        ((7, 0), False),
        ((7, 5), True),
        ((8, 9), True),
        ((9, 0), True),
        ((6, 1), False),
        ((12, 1), True),
        ((13, 0), True),
    ],
)
def test_the_generations_that_builds_for_cuda_13_know(capability: tuple[int, int], runs: bool) -> None:
    assert is_built_for(capability, CUDA_13) is runs


def test_volta_has_code_in_builds_for_older_cuda() -> None:
    assert is_built_for((7, 0), ["sm_50", "sm_70", "sm_90a"]) and not is_built_for((10, 0), ["sm_50", "sm_90a"])
