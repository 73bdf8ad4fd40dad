"""Linear layers whose weights are integers and scales, dequantized a slice of rows at a time for the product.

O outputs, I inputs, G = I / 64 groups. Nothing larger than a slice is ever held beside the integers, and a slice is
multiplied by while it is in the processor's cache.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

INT4_GROUP = 64  # inputs that share a scale: with a zero beside it 4.5 bits a weight, as torchao's int4 kernels have it
_SLICE_VALUES = {"cpu": 2**20, "cuda": 2**26}  # of a slice; on a GPU each one costs the start of kernels


class QuantizedLinear(nn.Module, ABC):
    """(..., I) -> (..., O), in the input's dtype; no bias. What it holds are buffers, in no optimiser's reach."""

    format: Literal["int8", "int4"]
    parts: tuple[str, ...]  # names of the buffers; rows first in each
    in_features: int
    out_features: int
    scales: Tensor

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, self.in_features)
        step = max(_SLICE_VALUES.get(x.device.type, 2**20) // self.in_features, 1)
        buffer = x.new_empty(min(step, self.out_features), self.in_features)
        products = []
        for first in range(0, self.out_features, step):
            rows = buffer[: self.out_features - first]
            self.write_rows(first, rows)
            products.append(F.linear(flat, rows))
        return torch.cat(products, dim=-1).unflatten(0, x.shape[:-1])

    @abstractmethod
    def write_rows(self, first: int, rows: Tensor) -> None:
        """Fills rows (R, I) with the dequantized weight from its row `first` on; int4 without zeros (see `forward`)."""

    def dequantized(self) -> Tensor:
        """The whole weight (O, I) in float32."""
        rows = torch.empty(self.out_features, self.in_features, device=self.scales.device)
        self.write_rows(0, rows)
        return rows

    @abstractmethod
    def divide_(self, divisor: float) -> None:
        """Divides the weight, in place."""

    @classmethod
    def joined(cls, layers: Sequence[Self]) -> Self:
        """One layer with the outputs of all, in order; they have one format and one input."""
        return cls(*(torch.cat([getattr(layer, part) for layer in layers]) for part in cls.parts))

    @classmethod
    @abstractmethod
    def part_shapes(cls, out_features: int, in_features: int) -> list[tuple[tuple[int, ...], torch.dtype]]:
        """Shape and dtype of each part."""

    @property
    def num_bytes(self) -> int:
        return sum(buffer.nbytes for buffer in self.buffers())


class Int8Linear(QuantizedLinear):
    """8 bits a weight, symmetric, one scale for each output.

    Args:
        values: (O, I) int8.
        scales: (O,) float32.
    """

    format = "int8"
    parts = ("values", "scales")
    values: Tensor

    def __init__(self, values: Tensor, scales: Tensor) -> None:
        super().__init__()
        self.out_features, self.in_features = values.shape
        self.register_buffer("values", values)
        self.register_buffer("scales", scales)

    @classmethod
    def part_shapes(cls, out_features: int, in_features: int) -> list[tuple[tuple[int, ...], torch.dtype]]:
        return [((out_features, in_features), torch.int8), ((out_features,), torch.float32)]

    def write_rows(self, first: int, rows: Tensor) -> None:
        part = slice(first, first + len(rows))
        rows.copy_(self.values[part]).mul_(self.scales[part, None].to(rows.dtype))

    def divide_(self, divisor: float) -> None:
        self.scales.div_(divisor)


class Int4Linear(QuantizedLinear):
    """4 bits a weight, and a scale and a zero for each 64 inputs of an output: weight = integer · scale + zero.

    Args:
        values: (O, I / 2) uint8: integers from -8 to 7, those of the first half of the inputs in the low four bits.
        scales, zeros: (O, G) bfloat16.
    """

    format = "int4"
    parts = ("values", "scales", "zeros")
    values: Tensor
    zeros: Tensor

    def __init__(self, values: Tensor, scales: Tensor, zeros: Tensor) -> None:
        super().__init__()
        self.out_features, self.in_features = values.shape[0], 2 * values.shape[1]
        self.register_buffer("values", values)
        self.register_buffer("scales", scales)
        self.register_buffer("zeros", zeros)

    @classmethod
    def part_shapes(cls, out_features: int, in_features: int) -> list[tuple[tuple[int, ...], torch.dtype]]:
        groups = out_features, in_features // INT4_GROUP
        return [((out_features, in_features // 2), torch.uint8), (groups, torch.bfloat16), (groups, torch.bfloat16)]

    def forward(self, x: Tensor) -> Tensor:
        # The zeros' share is a small product of its own, instead of a sum over all weights
        sums = x.unflatten(-1, (-1, INT4_GROUP)).sum(-1)  # (..., G)
        return super().forward(x) + F.linear(sums, self.zeros.to(x.dtype))

    def write_rows(self, first: int, rows: Tensor) -> None:
        part = slice(first, first + len(rows))
        values = self.values[part].view(torch.int8)
        half = values.shape[1]
        # In the upper four bits of a byte an integer is 16 times itself, sign included
        rows[:, :half] = values << 4
        rows[:, half:] = values & -16
        rows.unflatten(1, (-1, INT4_GROUP)).mul_(self.scales[part, :, None].to(rows.dtype) / 16)

    def dequantized(self) -> Tensor:
        return super().dequantized() + self.zeros.float().repeat_interleave(INT4_GROUP, dim=1)

    def integers(self) -> Tensor:
        """(O, I) int8, from -8 to 7."""
        values = self.values.view(torch.int8)
        return torch.cat([(values << 4) >> 4, values >> 4], dim=1)

    def divide_(self, divisor: float) -> None:
        self.scales.div_(divisor)
        self.zeros.div_(divisor)


def num_weights(model: nn.Module) -> int:
    """Parameters of a model, quantized ones included."""
    quantized = sum(
        layer.in_features * layer.out_features for layer in model.modules() if isinstance(layer, QuantizedLinear)
    )
    return quantized + sum(parameter.numel() for parameter in model.parameters())
