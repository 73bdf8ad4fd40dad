"""Linear layers with their weights laid out once for the CPU that multiplies by them.

oneDNN's blocked layout makes a product of few rows as fast as memory gives the weights: of 3 rows, as in a decoding
step, 3 to 6 times as fast as the plain layout (`benchmarks/README.md`). A row's result does not depend on the other
rows, so that a batch changes no answer.
"""

import torch
from torch import Tensor, nn

from models.networks.cpm_bee.model import CPMBee

_ROWS_HINT = 16  # any number but "unknown" gives the layout that is fast at all row counts
_SMALLEST = 16  # columns and rows below which nothing is gained


class PackedLinear(nn.Module):
    """`nn.Linear` for inference: (..., in) -> (..., out). Its weight is opaque and in no state dict.

    Args:
        weight: (out, in) on a CPU; it is copied.
        bias: (out,) or None; it is kept.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        with torch.no_grad():
            self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), _ROWS_HINT)
        self._bias = None if bias is None else bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")
        return product


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


def pack_language_model(llm: CPMBee) -> None:
    """Packs all layers of a folded model, those of one input as one, and beside the embedding a copy that projects.

    The model is for inference alone from here on: its linear weights are in no state dict.
    """
    for block in llm.blocks:
        attention, feed_forward = block.attention, block.feed_forward
        if can_pack(attention.query.weight):
            attention.joined = PackedLinear(_stacked(attention.query, attention.key, attention.value))
            del attention.query, attention.key, attention.value
        if can_pack(feed_forward.gate.weight):
            feed_forward.joined = PackedLinear(_stacked(feed_forward.gate, feed_forward.up))
            del feed_forward.gate, feed_forward.up
    pack_linears(llm)
    if can_pack(llm.embedding.weight):
        llm.vocabulary_projection = PackedLinear(llm.embedding.weight)


def _stacked(*linears: nn.Linear) -> Tensor:
    return torch.cat([linear.weight.detach() for linear in linears])
