"""From a weight to integers and scales. O outputs, I inputs, G = I / 64 groups.

int8: to the nearest of 255 even steps between minus and plus an output's largest weight. int4: to the nearest of 16
even steps; of several ranges from a group's whole one down to 70 % of it the one with the least squared error, since
one outlier would coarsen the steps of 63 others.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from models.jobs import Quantization
from models.networks.cpm_bee.quantized_linear import INT4_GROUP, Int4Linear, Int8Linear, QuantizedLinear

_BLOCK_VALUES = 2**18  # rounded at once: float32 beside the integers, that a processor's cache holds
_RANGES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)  # of a group's own, tried for int4
_SMALLEST = 1e-12  # scale of what is all zeros


def layer_of(quantization: Quantization, in_features: int) -> type[Int8Linear] | type[Int4Linear]:
    """The layer that a weight with so many inputs becomes: int8 where int4's groups do not divide them."""
    return Int4Linear if quantization == "int4" and in_features % INT4_GROUP == 0 else Int8Linear


def quantize(
    weight: Tensor,
    quantization: Quantization,
    device: torch.device | str = "cpu",
    release: Callable[[Tensor], object] = lambda rows: None,
) -> QuantizedLinear:
    """A layer on `device` with this weight.

    Args:
        weight: (O, I) in any float dtype; it is read a block of rows at a time.
        release: gets each block when it has been read.
    """
    layer = layer_of(quantization, weight.shape[1])
    step = max(_BLOCK_VALUES // weight.shape[1], 1)
    parts = [torch.empty(shape, dtype=dtype, device=device) for shape, dtype in layer.part_shapes(*weight.shape)]
    for first, block in zip(range(0, len(weight), step), weight.split(step), strict=True):
        rounded = _int4(block.float()) if layer is Int4Linear else _int8(block.float())
        for part, rows in zip(parts, rounded, strict=True):
            part[first : first + step] = rows
        release(block)
    return layer(*parts)


def _int8(rows: Tensor) -> tuple[Tensor, ...]:
    scales = (rows.abs().amax(dim=1) / 127).clamp_(min=_SMALLEST)
    return (rows / scales[:, None]).round_().to(torch.int8), scales


def _int4(rows: Tensor) -> tuple[Tensor, ...]:
    groups = rows.unflatten(1, (-1, INT4_GROUP))  # (O, G, 64)
    low, high = groups.amin(dim=2), groups.amax(dim=2)
    best, scales, zeros, least = groups, low, low, torch.full_like(low, torch.inf)
    for share in _RANGES:
        # Rounded as they are kept, before anything is measured in them
        scale = ((high - low) * (share / 15)).clamp_(min=_SMALLEST).bfloat16()
        zero = (low * share + 8 * scale.float()).bfloat16()
        wide_scale, wide_zero = scale.float()[:, :, None], zero.float()[:, :, None]
        integers = ((groups - wide_zero) / wide_scale).round_().clamp_(-8, 7)
        error = (integers * wide_scale).add_(wide_zero).sub_(groups).square_().sum(dim=2)
        is_better = error < least
        best = torch.where(is_better[:, :, None], integers, best)
        scales, zeros = torch.where(is_better, scale, scales), torch.where(is_better, zero, zeros)
        least = torch.where(is_better, error, least)
    low_half, high_half = best.flatten(1).to(torch.int8).chunk(2, dim=1)
    values = ((high_half << 4) | (low_half & 15)).view(torch.uint8)
    return values, scales.bfloat16(), zeros.bfloat16()
