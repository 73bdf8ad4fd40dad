"""Quantized layers laid out for the kernels of their device, where torch's or torchao's are better than a product by
dequantized slices (networks/cpm_bee/quantized_linear.py).

    processor, float32 and float16   slices: as fast as packed float32, and torch's kernels have no vector code for them
    processor, bfloat16              torch's int8 kernel; torchao's int4 tensor, of the same kind
    CUDA                             torchao's tensors; int8 in float16 by slices, since theirs multiplies before it
                                     scales, which overflows there

torchao is the extra `quantization`. Without it slices do the work, in the same memory.
"""

import importlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.cpm_bee.quantized_linear import INT4_GROUP, Int4Linear, Int8Linear, QuantizedLinear

logger = logging.getLogger(__name__)

_CUDA_INPUTS = 1024  # torchao's CUDA kernel wants a multiple of them
_CUDA_TILES = 8
# Which torchao 0.18 says of itself on being imported: builds for other devices that it cannot load, and its enums
_CHATTY = ("torchao", "torch.utils._pytree")


class Int8KernelLinear(nn.Module):
    """An `Int8Linear` by torch's kernel for bfloat16 on processors, which reads 8 bits a weight and no more."""

    def __init__(self, layer: Int8Linear) -> None:
        super().__init__()
        self.register_buffer("values", layer.values)
        self.register_buffer("scales", layer.scales.bfloat16())

    def forward(self, x: Tensor) -> Tensor:
        product: Tensor = torch.ops.aten._weight_int8pack_mm(x.flatten(0, -2).contiguous(), self.values, self.scales)
        return product.unflatten(0, x.shape[:-1])


class TorchaoLinear(nn.Module):
    """A layer whose weight is one of torchao's tensors. It is in no state dict: folders keep plain tensors."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self._weight = weight

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self._weight)


def lay_out_quantized(model: nn.Module, dtype: torch.dtype) -> None:
    """Replaces the quantized layers within by what computes best on their device, one by one.

    Args:
        dtype: of what the layers are given.
    """
    for name, child in model.named_children():
        if isinstance(child, QuantizedLinear):
            setattr(model, name, laid_out(child, dtype))
        else:
            lay_out_quantized(child, dtype)


def laid_out(layer: QuantizedLinear, dtype: torch.dtype) -> nn.Module:
    """The layer for its device, or itself."""
    device = layer.scales.device.type
    if device == "cpu":
        if dtype != torch.bfloat16:
            return layer
        if isinstance(layer, Int8Linear):
            return Int8KernelLinear(layer)
    elif device != "cuda" or (isinstance(layer, Int8Linear) and dtype == torch.float16):
        return layer
    if not has_torchao():
        return layer
    if isinstance(layer, Int8Linear):
        return TorchaoLinear(int8_tensor(layer, dtype))
    assert isinstance(layer, Int4Linear)
    return TorchaoLinear(int4_tensor_of_cpu(layer) if device == "cpu" else int4_tensor_of_cuda(layer))


def int8_tensor(layer: Int8Linear, dtype: torch.dtype) -> Tensor:
    tensor_class = _import("torchao.quantization").Int8Tensor
    block = [1, layer.in_features]
    result: Tensor = tensor_class(layer.values, layer.scales[:, None], block, dtype)
    return result


def int4_tensor_of_cpu(layer: Int4Linear) -> Tensor:
    tensor_class = _import("torchao.prototype.quantization.int4").Int4OpaqueTensor
    integers = layer.integers().int() + 8  # the kernel's run from 0 to 15
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(integers, 1)
    shape = torch.Size((layer.out_features, layer.in_features))
    result: Tensor = tensor_class(packed, _scale_and_zero(layer), [1, INT4_GROUP], shape)
    return result


def int4_tensor_of_cuda(layer: Int4Linear) -> Tensor:
    tensor_class = _import("torchao.quantization").Int4TilePackedTo4dTensor
    padding = -layer.in_features % _CUDA_INPUTS
    integers = F.pad(layer.integers() + 8, (0, padding), value=8).to(torch.uint8)
    packed = torch.ops.aten._convert_weight_to_int4pack(integers[:, ::2] << 4 | integers[:, 1::2], _CUDA_TILES)
    scale_and_zero = F.pad(_scale_and_zero(layer), (0, 0, 0, 0, 0, padding // INT4_GROUP))
    shape = torch.Size((layer.out_features, layer.in_features))
    result: Tensor = tensor_class(packed, scale_and_zero, [1, INT4_GROUP], shape)
    return result


def _scale_and_zero(layer: Int4Linear) -> Tensor:
    """(G, O, 2) bfloat16."""
    return torch.stack([layer.scales.t(), layer.zeros.t()], dim=-1).contiguous()


def has_torchao() -> bool:
    """Whether it can be imported; said once where not."""
    try:
        _import("torchao.quantization")
    except ImportError as error:
        logger.warning(
            "quantized layers are multiplied slice by slice; the extra quantization has faster kernels (%s)",
            error,
        )
        return False
    return True


def _import(name: str) -> Any:
    with _quiet():
        return importlib.import_module(name)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torchao says on being imported that changes nothing here."""
    loggers = [logging.getLogger(name) for name in _CHATTY]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
