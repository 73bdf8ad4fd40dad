"""Which kernel multiplies by a quantized layer, and that each gives its product."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.checkpoints.quantization.rounding import quantize
from models.engines import quantized_layout
from models.engines.quantized_layout import (
    Int8KernelLinear,
    TorchaoLinear,
    int8_tensor,
    laid_out,
    lay_out_quantized,
)
from models.jobs import Quantization
from models.networks.cpm_bee.quantized_linear import Int8Linear, QuantizedLinear


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def layer(quantization: Quantization) -> QuantizedLinear:
    return quantize(random(96, 128), quantization)


@pytest.mark.parametrize(("quantization", "kind"), [("int8", Int8KernelLinear), ("int4", TorchaoLinear)])
@torch.inference_mode()
def test_bfloat16_on_a_processor_has_kernels(quantization: Quantization, kind: type[nn.Module]) -> None:
    one, x = layer(quantization), random(2, 9, 128).bfloat16()
    kernel = laid_out(one, torch.bfloat16)
    assert type(kernel) is kind
    expected = F.linear(x.float(), one.dequantized())
    found = kernel(x)
    assert found.dtype == torch.bfloat16 and found.shape == expected.shape
    assert (found.float() - expected).norm() / expected.norm() < 6e-3
    for count in (1, 3, 8):  # whatever else is in the batch
        assert torch.equal(kernel(x[0, :count]), found[0, :count])


@pytest.mark.parametrize("quantization", ["int8", "int4"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_other_dtypes_are_multiplied_by_slices(quantization: Quantization, dtype: torch.dtype) -> None:
    one = layer(quantization)
    assert laid_out(one, dtype) is one


@torch.inference_mode()
def test_torchaos_int8_tensor_holds_the_same_weight() -> None:
    """The one that a GPU gets; its product runs on any device."""
    one, x = layer("int8"), random(5, 128).bfloat16()
    assert isinstance(one, Int8Linear)
    expected = F.linear(x.float(), one.dequantized())
    found = TorchaoLinear(int8_tensor(one, torch.bfloat16))(x)
    assert (found.float() - expected).norm() / expected.norm() < 6e-3


def test_layers_are_found_wherever_they_are() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ModuleList([layer("int8")]))
    lay_out_quantized(model, torch.bfloat16)
    assert type(model[0]) is nn.Linear and type(model[1][0]) is Int8KernelLinear


def test_without_torchao_slices_do_the_work(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)  # as where it is not installed
    one = layer("int4")
    assert laid_out(one, torch.bfloat16) is one
    assert "the extra quantization has faster kernels" in caplog.text


@pytest.mark.own_process
def test_importing_torchao_says_nothing() -> None:
    code = f"from {quantized_layout.__name__} import has_torchao; assert has_torchao()"
    imported = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=100)
    assert (imported.returncode, imported.stdout + imported.stderr) == (0, "")
