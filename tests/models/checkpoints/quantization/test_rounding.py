"""What rounding to 8 and 4 bits leaves of a weight."""

import pytest
import torch
from torch import Tensor

from models.checkpoints.quantization import rounding
from models.checkpoints.quantization.rounding import layer_of, quantize
from models.jobs import Quantization
from models.networks.cpm_bee.quantized_linear import Int4Linear, Int8Linear

EACH = pytest.mark.parametrize("quantization", ["int8", "int4"])


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def error(weight: Tensor, quantization: Quantization) -> float:
    return ((quantize(weight, quantization).dequantized() - weight).norm() / weight.norm()).item()


@pytest.mark.parametrize(("quantization", "most"), [("int8", 0.01), ("int4", 0.09)])
def test_random_weights_lose_little(quantization: Quantization, most: float) -> None:
    assert 0 < error(random(64, 512), quantization) < most


@EACH
def test_even_steps_are_kept(quantization: Quantization) -> None:
    steps = torch.arange(-8, 8).repeat(4, 8).float()  # (4, 128)
    steps[:, 0] = 127 / 16 if quantization == "int8" else 7  # int8: the largest makes a step of 1 / 16
    torch.testing.assert_close(quantize(steps / 4, quantization).dequantized(), steps / 4, atol=0.04, rtol=0)


def test_a_row_of_int8_does_not_lose_by_another() -> None:
    weight = random(2, 64)
    alone = quantize(weight[:1], "int8").dequantized()
    weight[1] *= 1000
    assert torch.equal(quantize(weight, "int8").dequantized()[:1], alone)


def test_an_outlier_in_int4_costs_its_own_group_alone_and_less_than_its_range_would() -> None:
    weight = random(8, 128)
    before = quantize(weight, "int4").dequantized()
    weight[:, 0] = 4.5
    after = quantize(weight, "int4").dequantized()
    assert torch.equal(before[:, 64:], after[:, 64:])
    ends = weight[:, :64].amin(dim=1, keepdim=True), weight[:, :64].amax(dim=1, keepdim=True)
    step = (ends[1] - ends[0]) / 15
    whole_range = ((weight[:, :64] - ends[0]) / step).round() * step + ends[0]
    assert (after - weight)[:, :64].norm() < (whole_range - weight[:, :64]).norm()


@EACH
def test_zeros_stay_zeros(quantization: Quantization) -> None:
    assert not quantize(torch.zeros(3, 128), quantization).dequantized().any()


@EACH
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_as_its_float32(quantization: Quantization, dtype: torch.dtype) -> None:
    weight = random(8, 128).to(dtype)
    one, other = quantize(weight, quantization), quantize(weight.float(), quantization)
    assert all(torch.equal(a, b) for a, b in zip(one.buffers(), other.buffers(), strict=True))


@EACH
def test_blocks_of_rows_change_nothing_and_are_given_back(
    quantization: Quantization, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = random(10, 128)
    whole = quantize(weight, quantization)
    monkeypatch.setattr(rounding, "_BLOCK_VALUES", 3 * 128)
    released: list[Tensor] = []
    blocks = quantize(weight, quantization, release=released.append)
    assert all(torch.equal(a, b) for a, b in zip(whole.buffers(), blocks.buffers(), strict=True))
    assert [len(rows) for rows in released] == [3, 3, 3, 1]


def test_int4_is_int8_where_its_groups_do_not_divide_the_inputs() -> None:
    assert layer_of("int4", 128) is Int4Linear
    assert layer_of("int4", 100) is layer_of("int8", 128) is Int8Linear
    assert type(quantize(random(4, 100), "int4")) is Int8Linear
