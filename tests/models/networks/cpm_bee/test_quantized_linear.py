"""Layers of integers and scales: their products, their parts, what is divided and joined."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.checkpoints.quantization.rounding import quantize
from models.jobs import Quantization
from models.networks.cpm_bee import quantized_linear
from models.networks.cpm_bee.quantized_linear import Int4Linear, Int8Linear, QuantizedLinear, num_weights

EACH = pytest.mark.parametrize("quantization", ["int8", "int4"])
TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.5e-2}


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layer(quantization: Quantization, seed: int = 0) -> QuantizedLinear:
    return quantize(random(96, 128, seed=seed), quantization)


@EACH
@pytest.mark.parametrize("dtype", TOLERANCE)
@torch.inference_mode()
def test_products_are_those_of_the_dequantized_weight(
    quantization: Quantization, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, x = layer(quantization), random(2, 5, 128, seed=1).to(dtype)
    expected = F.linear(x.float(), one.dequantized())
    whole = one(x)
    assert whole.dtype == dtype and whole.shape == (2, 5, 96)
    assert (whole.float() - expected).norm() / expected.norm() < TOLERANCE[dtype]
    monkeypatch.setitem(quantized_linear._SLICE_VALUES, "cpu", 7 * 128)  # 14 slices, the last one shorter
    torch.testing.assert_close(one(x), whole, rtol=1e-4, atol=1e-4 if dtype == torch.float32 else 0.1)


def test_int4_integers_stand_in_halves_of_bytes() -> None:
    values = torch.tensor([[0x8F] * 64], dtype=torch.uint8)  # -1 for the first 64 inputs, -8 for the others
    scales, zeros = torch.tensor([[2.0, 1.0]]).bfloat16(), torch.tensor([[0.5, 0.0]]).bfloat16()
    one = Int4Linear(values, scales, zeros)
    assert one.integers().tolist() == [[-1] * 64 + [-8] * 64]
    assert one.dequantized().tolist() == [[-1.5] * 64 + [-8.0] * 64]


@EACH
@torch.inference_mode()
def test_dividing_divides_the_weight(quantization: Quantization) -> None:
    one, x = layer(quantization), random(3, 128, seed=1)
    expected = one(x) / 8
    one.divide_(8.0)
    torch.testing.assert_close(one(x), expected, rtol=1e-5, atol=1e-6)


@EACH
@torch.inference_mode()
def test_joined_layers_give_what_each_gives(quantization: Quantization) -> None:
    layers = [layer(quantization, seed) for seed in range(3)]
    x = random(4, 128, seed=9)
    joined = type(layers[0]).joined(layers)
    torch.testing.assert_close(joined(x), torch.cat([one(x) for one in layers], dim=-1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kind", "bits"), [(Int8Linear, 8 + 32 / 128), (Int4Linear, 4.5)])
def test_the_parts_have_the_shapes_that_are_told(kind: type[QuantizedLinear], bits: float) -> None:
    one = layer(kind.__name__[:4].lower())  # type: ignore[arg-type]
    assert type(one) is kind
    assert [(tuple(part.shape), part.dtype) for part in one.buffers()] == kind.part_shapes(96, 128)
    assert [name for name, _ in one.named_buffers()] == list(kind.parts)
    assert one.num_bytes * 8 == 96 * 128 * bits


def test_all_weights_are_counted() -> None:
    model = nn.Sequential(layer("int8"), layer("int4"), nn.Linear(4, 2))
    assert num_weights(model) == 2 * 96 * 128 + 4 * 2 + 2
