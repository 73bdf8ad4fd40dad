"""Linear layers with their weights laid out once for the CPU that multiplies by them.

oneDNN's blocked layout makes a product of few rows as fast as memory gives the weights: of 3 rows, as in a decoding
step, 3 to 6 times as fast as the plain layout (`benchmarks/README.md`). A row's result does not depend on the other
rows, so that a batch changes no answer. Weights that stay in the processor's cache anyway keep the plain layout: the
call takes 12 µs there, 34 by oneDNN; of a row beside fewer than four, or in several threads a dozen, the last bit may
then be another.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.engines.free_memory import trim_heap
from models.engines.quantized_layout import lay_out_quantized
from models.networks.cpm_bee.model import CPMBee
from models.networks.cpm_bee.quantized_linear import Int4Linear, Int8Linear, QuantizedLinear

_ROWS_HINT = 16  # any number but "unknown" gives the layout that is fast at all row counts
_SMALLEST = 16  # columns and rows below which nothing is gained
_MOST_CACHED = 2**17  # float32 weights that stay in a processor's cache
_FEW_ROWS = 64  # more than decoding has as a rule


class PackedLinear(nn.Module):
    """`nn.Linear` for inference: (..., in) -> (..., out). Its weight is in no state dict and, unless small, opaque.

    Args:
        weight: (out, in) on a CPU; it is copied.
        bias: (out,) or None; it is kept.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self._is_plain = weight.dtype == torch.float32 and weight.numel() <= _MOST_CACHED
        with torch.no_grad():
            if self._is_plain:
                self._weight = weight.detach().clone()
            else:
                self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), _ROWS_HINT)
        self._product = torch.ops.mkldnn._linear_pointwise.default
        self._bias = None if bias is None else bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        if self._is_plain:
            return F.linear(x, self._weight, self._bias)
        product: Tensor = self._product(x, self._weight, self._bias, "none", [], "")
        return product


class PlainLinear(nn.Linear):
    """`nn.Linear` whose weight stays in the plain layout, for it changes too often to be packed.

    Few rows, as in a decoding step, are multiplied by oneDNN: of published widths 1.3 to 2.4 times as fast as by torch,
    and each with the same result in whatever company. The many rows of prompts are faster by torch.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=False, device="meta")
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: Tensor) -> Tensor:
        num_rows = x.numel() // self.in_features
        if num_rows > _FEW_ROWS:
            return F.linear(x, self.weight, self.bias)
        # One row alone would be multiplied in another way
        rows = torch.cat([x, x]) if num_rows == 1 else x
        product: Tensor = torch.ops.mkldnn._linear_pointwise(rows, self.weight, self.bias, "none", [], "")
        return product[:1] if num_rows == 1 else product


def computes_packed(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this torch, on this processor, multiplies by packed weights of that dtype."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.cpu._is_avx512_bf16_supported())


def can_pack(weight: Tensor) -> bool:
    return min(weight.shape) >= _SMALLEST and computes_packed(weight.device, weight.dtype)


def packed(linear: nn.Linear) -> nn.Module:
    """The layer with its weight packed, or itself where that cannot be done."""
    return PackedLinear(linear.weight, linear.bias) if can_pack(linear.weight) else linear


def pack_linears(module: nn.Module) -> None:
    """Packs every linear layer within, in place and one by one, so that no more than one is held twice."""
    for name, child in module.named_children():
        if type(child) is nn.Linear:
            setattr(module, name, packed(child))
        else:
            pack_linears(child)


def multiply_plainly(module: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Makes every linear layer within a PlainLinear, in place, where that device computes so."""
    if not computes_packed(device, dtype):
        return
    for name, child in module.named_children():
        if type(child) is nn.Linear and min(child.weight.shape) >= _SMALLEST:
            setattr(module, name, PlainLinear(child))
        else:
            multiply_plainly(child, device, dtype)


def pack_language_model(llm: CPMBee, projects: bool = True) -> None:
    """Packs all layers of a folded model, those of one input as one, and beside the embedding a copy that projects.

    Quantized layers get the layout of their device instead, and their model no such copy: it is there to be small. The
    model is for inference alone from here on: its linear weights are in no state dict.

    Args:
        projects: whether it is asked for logits.
    """
    is_quantized = False
    for block in llm.blocks:
        attention, feed_forward = block.attention, block.feed_forward
        attention.joined = _joined(attention, "query", "key", "value")
        feed_forward.joined = _joined(feed_forward, "gate", "up")
        if isinstance(attention.joined, QuantizedLinear):
            is_quantized = True
            trim_heap()  # the parts of a layer are small enough for the C library to keep them
    pack_linears(llm)
    if is_quantized:
        lay_out_quantized(llm, llm.embedding.weight.dtype)
    elif projects and can_pack(llm.embedding.weight):
        llm.vocabulary_projection = PackedLinear(llm.embedding.weight)


def _joined(parent: nn.Module, *names: str) -> nn.Module | None:
    """Layers of one input as one, in whose favour the parent loses them; None where they stay as they are."""
    layers = [getattr(parent, name) for name in names]
    if all(isinstance(layer, Int8Linear) for layer in layers) or all(isinstance(layer, Int4Linear) for layer in layers):
        joined = type(layers[0]).joined(layers)
        for name in names:
            delattr(parent, name)
        return joined
    if not all(type(layer) is nn.Linear and can_pack(layer.weight) for layer in layers):
        return None
    weight = torch.cat([layer.weight.detach() for layer in layers])
    # Before it is packed, so that there is one copy too many at a time
    layers.clear()
    for name in names:
        delattr(parent, name)
    return PackedLinear(weight)
