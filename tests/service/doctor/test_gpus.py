"""GPUs as they are told; where there are none, why."""

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


def test_this_machine() -> None:
    """Whatever it has, it is told, and agrees with torch."""
    torch = pytest.importorskip("torch")
    found = find_gpus()
    if torch.cuda.is_available():
        assert found.driver and len(found.devices) >= torch.cuda.device_count()
    else:
        assert not found.devices and found.reason
