"""The UNet made ready for serving, in place: the same function in fewer and faster operations.

- Keys and values of the texts are computed once for as long as the same rows come again, not in every step.
- Queries, keys and values of self-attention are one product.
- On processors, weights of float32, and of bfloat16 where it is computed with, are packed once the way oneDNN wants
  them, where torch would do it in every call.
- On GPUs, activations and convolutions are channels-last.

Training, evaluation and parity take the UNet as it is.
"""

from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.activations import GEGLU
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import TimestepEmbedding
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.weak import WeakIdKeyDictionary

from models.engines.packed_linear import PackedLinear, computes_packed

PACKED_ROWS = 16  # that convolutions are packed for; other numbers of rows use the same weights
MAX_PACKED_BYTES = 256 << 20  # of a UNet's convolutions


class SelfAttention:
    """Attention of a picture's positions to each other; `attn.to_qkv` is all three projections."""

    def __call__(self, attn: Attention, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        query, key, value = attn.to_qkv(hidden_states).chunk(3, dim=-1)  # (rows, positions, width) each
        query, key, value = (_split_heads(each, attn.heads) for each in (query, key, value))
        return _attend(attn, query, key, value, mask=None)


class TextAttention:
    """Attention to the texts, whose keys and values are kept for as long as the texts' tensor lives."""

    def __init__(self) -> None:
        self._known: WeakIdKeyDictionary = WeakIdKeyDictionary()

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        if encoder_hidden_states not in self._known:
            both = attn.to_kv(encoder_hidden_states).chunk(2, dim=-1)
            self._known[encoder_hidden_states] = tuple(_split_heads(each, attn.heads).contiguous() for each in both)
        key, value = self._known[encoder_hidden_states]
        mask = None if attention_mask is None else attention_mask[:, None]  # (rows, 1, 1, L), added
        return _attend(attn, _split_heads(attn.to_q(hidden_states), attn.heads), key, value, mask)


class PackedGEGLU(nn.Module):
    """Two products, the first through GELU and into the second, without a pass over memory of their own."""

    def __init__(self, geglu: GEGLU) -> None:
        super().__init__()
        weights, biases = geglu.proj.weight.detach().chunk(2), geglu.proj.bias.detach().chunk(2)
        self.value, self.gate = (torch.ops.mkldnn._reorder_linear_weight(weight.contiguous()) for weight in weights)
        self.value_bias, self.gate_bias = (bias.contiguous() for bias in biases)

    def forward(self, rows: Tensor) -> Tensor:
        gates = torch.ops.mkldnn._linear_pointwise(rows, self.gate, self.gate_bias, "gelu", [], "none")
        gated: Tensor = torch.ops.mkldnn._linear_pointwise.binary(rows, gates, self.value, self.value_bias, "mul")
        return gated


class PackedConv2d(nn.Module):
    """A convolution with its weights also packed for the size that it meets first, in warm-up: the usual one.

    What oneDNN wants depends on the size, and weights packed for another one are far slower than plain ones.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.settings = (conv.padding, conv.stride, conv.dilation, conv.groups)
        self.size: tuple[int, ...] = ()
        self.packed: Tensor | None = None

    def forward(self, rows: Tensor) -> Tensor:
        size = tuple(rows.shape[1:])
        if self.packed is None:
            self.size = size
            self.packed = torch.ops.mkldnn._reorder_convolution_weight(
                self.weight.detach(), *self.settings, (PACKED_ROWS, *size)
            )
        if size != self.size:
            padding, stride, dilation, groups = self.settings
            return functional.conv2d(rows, self.weight, self.bias, stride, padding, dilation, groups)
        result: Tensor = torch.ops.mkldnn._convolution_pointwise(
            rows, self.packed, self.bias, *self.settings, "none", [], ""
        )
        return result


def prepare_unet(unet: UNet2DConditionModel) -> None:
    """In place. Afterwards it serves and nothing else: its weights are not where a checkpoint has them."""
    for module in list(unet.modules()):
        if isinstance(module, BasicTransformerBlock):
            _fuse(module)
    if computes_packed(unet.device, unet.dtype):
        _pack_linears(unet)
        _pack_convolutions(unet)
    elif unet.device.type == "cuda":
        unet.to(memory_format=torch.channels_last)


def _fuse(block: BasicTransformerBlock) -> None:
    attn1, attn2 = block.attn1, block.attn2
    if block.only_cross_attention or attn2 is None or any(attn.norm_cross for attn in (attn1, attn2)):
        return
    attn1.to_qkv = _joined(attn1.to_q, attn1.to_k, attn1.to_v)
    del attn1.to_q, attn1.to_k, attn1.to_v
    attn1.set_processor(SelfAttention())
    attn2.to_kv = _joined(attn2.to_k, attn2.to_v)
    del attn2.to_k, attn2.to_v
    attn2.set_processor(TextAttention())


def _joined(*linears: nn.Linear) -> nn.Linear:
    """One layer (no bias) with all outputs in order."""
    weight = torch.cat([linear.weight.detach() for linear in linears])
    joined = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    joined.weight = nn.Parameter(weight, requires_grad=False)
    return joined


def _pack_linears(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, TimestepEmbedding) or name == "time_emb_proj":
            continue  # of a few rows, which plain weights serve better
        if isinstance(child, GEGLU) and child.proj.bias is not None:
            setattr(module, name, PackedGEGLU(child))
        elif isinstance(child, nn.Linear):
            setattr(module, name, PackedLinear(child.weight, child.bias))
        else:
            _pack_linears(child)


def _pack_convolutions(unet: UNet2DConditionModel) -> None:
    """Where a second copy of the weights is small: large ones take so long to be used that reading them is little."""
    found = [
        (parent, name, child)
        for parent in unet.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.Conv2d) and child.padding_mode == "zeros" and not isinstance(child.padding, str)
    ]
    if sum(conv.weight.nbytes for _, _, conv in found) <= MAX_PACKED_BYTES:
        for parent, name, conv in found:
            setattr(parent, name, PackedConv2d(conv))


def _split_heads(rows: Tensor, num_heads: int) -> Tensor:
    """(rows, positions, width) -> (rows, heads, positions, width / heads)."""
    return rows.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def _attend(attn: Attention, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=attn.scale)
    result: Tensor = attn.to_out[0](attended.transpose(1, 2).flatten(2))
    return result
