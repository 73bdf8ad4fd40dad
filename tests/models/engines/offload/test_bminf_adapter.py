"""BMInf: why it cannot run, in one line each; and what it is asked for where it can."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn

from models.engines.offload.bminf_adapter import BMInfLayers, OffloadUnusable, int8_problem, why_not

ROOT = Path(__file__).parents[4]
CPU = torch.device("cpu")
PROBE = """
import torch
from models.engines.offload.bminf_adapter import why_not
print(why_not(torch.device("cpu"), torch.float16, torch.nn.ModuleList([torch.nn.Linear(8, 8)])))
"""


def layers(width: int = 8) -> nn.ModuleList:
    return nn.ModuleList(nn.Linear(width, width) for _ in range(3)).requires_grad_(False)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Has the package begin with these lines."""

    def installed(source: str) -> None:
        (tmp_path / "bminf.py").write_text(source)
        (tmp_path / "bminf-2.0.1.dist-info").mkdir()
        (tmp_path / "bminf-2.0.1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: bminf\nVersion: 2.0.1")
        monkeypatch.syspath_prepend(tmp_path)

    sys.modules.pop("bminf", None)
    yield installed
    sys.modules.pop("bminf", None)


@pytest.mark.slow
def test_without_a_gpu_one_line_says_why() -> None:
    """By the package itself, where it is installed."""
    command = [sys.executable, "-c", PROBE]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.removesuffix("\n")
    if find_spec("bminf") is None:
        assert told == "the package bminf is not installed; pip install 'viscpm-service[bminf]'"
    else:
        assert told.startswith(("the package bminf 2.0.1 does not load: ", "it needs a CUDA device"))
    assert "\n" not in told


def test_layers_are_refused_with_the_setting_that_wants_it() -> None:
    with pytest.raises(OffloadUnusable, match=r"^VISCPM_OFFLOAD=bminf: [^\n]+$"):
        BMInfLayers(layers(), CPU, torch.float16)


def test_what_its_import_ran_into_is_told_in_one_line(install: Callable[[str], None]) -> None:
    """cpm_kernels counts the GPUs when it is imported."""
    error = "CUDA Runtime Error: CUDA driver version is insufficient for CUDA runtime version"
    install(f"raise RuntimeError({error!r} + chr(10) + 'more')")
    told = why_not(CPU, torch.float16, layers())
    assert told == f"the package bminf 2.0.1 does not load: RuntimeError: {error}"


def test_a_package_that_loads_still_needs_a_gpu(install: Callable[[str], None]) -> None:
    install("")
    told = why_not(CPU, torch.float16, layers())
    assert told == "it needs a CUDA device, got cpu; VISCPM_OFFLOAD=streamed works on both"


def test_int4_is_none_of_its_own() -> None:
    assert "no int4" in (why_not(CPU, torch.float16, layers(), "int4") or "")


def test_int8_needs_a_dtype_and_sizes_that_its_kernels_know() -> None:
    assert int8_problem(torch.float16, layers()) is None
    assert "take bfloat16 for something else" in (int8_problem(torch.bfloat16, layers()) or "")
    assert "multiples of 4, got 6" in (int8_problem(torch.float16, layers(6)) or "")
