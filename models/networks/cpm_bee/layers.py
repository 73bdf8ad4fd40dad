"""Blocks of CPM-Bee (SPEC §4). B batch, L length, D model width, F feed-forward width, H heads, Dh head width.

A `*_divisor` of None means that the scaling is part of the weights (folding.py).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.cpm_bee.config import CPMBeeConfig
from models.networks.cpm_bee.kv_cache import KVCache
from models.networks.cpm_bee.position_bias import AttentionBias

RESIDUAL_DIVISOR = 1.05
ROTARY_BASE = 10000.0
ROTARY_DISTANCE_SCALE = 16


class RMSNorm(nn.Module):
    """Normalised in float32 and rounded before the weight, as the published model does."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype == torch.float32:  # the same in one call
            return F.rms_norm(x, self.weight.shape, self.weight, self.eps)
        wide = x.float()
        normalised = wide * torch.rsqrt(wide.pow(2).mean(dim=-1, keepdim=True) + self.eps)
        return normalised.to(x.dtype) * self.weight


class Attention(nn.Module):
    """Attention with learned biases, in two halves: what a cache keeps lies between them."""

    def __init__(self, config: CPMBeeConfig) -> None:
        super().__init__()
        inner = config.num_heads * config.dim_head
        self.query = nn.Linear(config.dim_model, inner, bias=False)
        self.key = nn.Linear(config.dim_model, inner, bias=False)
        self.value = nn.Linear(config.dim_model, inner, bias=False)
        self.output = nn.Linear(inner, config.dim_model, bias=False)
        self.joined: nn.Module | None = None  # query, key and value in one, where an engine lays them out so
        self.num_heads, self.dim_head = config.num_heads, config.dim_head
        self.input_divisor: float | None = math.sqrt(config.dim_model)
        self.output_divisor: float | None = math.sqrt(inner)

    def project(self, x: Tensor, asking: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """States (B, L, D), and those (B, R, D) that ask -> queries (B, H, R, Dh), keys and values (B, H, L, Dh)."""
        if self.joined is None:
            return self._heads(self.query(asking)), self._heads(self.key(x)), self._heads(self.value(x))
        queries, keys, values = self._joined_heads(self.joined(x))
        if asking is not x:
            queries, _, _ = self._joined_heads(self.joined(asking))
        return queries, keys, values

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, bias: AttentionBias) -> Tensor:
        """Queries (B, H, L, Dh), keys and values (B, H, N, Dh) -> (B, L, D)."""
        return self.merge(self.mix(queries, keys, values, bias))

    def mix(self, queries: Tensor, keys: Tensor, values: Tensor, bias: AttentionBias) -> Tensor:
        """Queries (B, H, L, Dh), keys and values (B, H, N, Dh) -> mixed values by head (B, H, L, Dh)."""
        mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias.scores)
        return mixed if bias.blind is None else mixed.masked_fill(bias.blind, 0)

    def merge(self, mixed: Tensor) -> Tensor:
        """Mixed values by head (B, H, L, Dh) -> (B, L, D)."""
        return divided(self.output(mixed.transpose(1, 2).flatten(2)), self.output_divisor)

    def _joined_heads(self, projected: Tensor) -> tuple[Tensor, ...]:
        """(B, L, 3 * H * Dh) -> three (B, H, L, Dh)."""
        batch, length, _ = projected.shape
        split = projected.view(batch, length, 3, self.num_heads, self.dim_head)
        return divided(split, self.input_divisor).permute(2, 0, 3, 1, 4).unbind()

    def _heads(self, projected: Tensor) -> Tensor:
        split = projected.unflatten(-1, (self.num_heads, self.dim_head))
        return divided(split, self.input_divisor).transpose(1, 2)


class FeedForward(nn.Module):
    """Gated by the exact gelu."""

    def __init__(self, config: CPMBeeConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.dim_model, config.dim_ff, bias=False)
        self.up = nn.Linear(config.dim_model, config.dim_ff, bias=False)
        self.down = nn.Linear(config.dim_ff, config.dim_model, bias=False)
        self.joined: nn.Module | None = None  # gate and up in one, where an engine lays them out so
        self.input_divisor: float | None = math.sqrt(config.dim_model)
        self.inner_divisor: float | None = math.sqrt(config.dim_ff)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = (self.gate(x), self.up(x)) if self.joined is None else self.joined(x).chunk(2, dim=-1)
        inner = F.gelu(divided(gate, self.input_divisor)) * divided(up, self.input_divisor)  # (B, L, F)
        # Divided before the product: half precision would overflow after it.
        down: Tensor = self.down(divided(inner, self.inner_divisor))
        return down


class Block(nn.Module):
    """Attention and feed-forward, each on the normed input, each residual sum divided by 1.05."""

    def __init__(self, config: CPMBeeConfig, index: int) -> None:
        super().__init__()
        self.index = index  # this block's part of a cache
        self.attention_norm = RMSNorm(config.dim_model, config.eps)
        self.attention = Attention(config)
        self.feed_forward_norm = RMSNorm(config.dim_model, config.eps)
        self.feed_forward = FeedForward(config)

    def forward(
        self, hidden: Tensor, bias: AttentionBias, cache: KVCache | None = None, places: Tensor | None = None
    ) -> Tensor:
        """(B, L, D) -> (B, L, D); with a cache the keys are kept, and the earlier ones are seen too.

        With places (B, R) only the states there are computed -> (B, R, D).
        """
        normed = asking = self.attention_norm(hidden)
        if places is not None:
            hidden, asking, bias = taken(hidden, places), taken(normed, places), bias.of_queries(places)
        queries, keys, values = self.attention.project(normed, asking)
        if cache is not None:
            keys, values = cache.append(self.index, keys, values)
        return self.finish(hidden, self.attention.attend(queries, keys, values, bias))

    def finish(self, hidden: Tensor, attended: Tensor) -> Tensor:
        """The block's input and what its attention gave for it, (B, L, D) both -> its output."""
        hidden = (hidden + attended).div_(RESIDUAL_DIVISOR)
        fed: Tensor = self.feed_forward(self.feed_forward_norm(hidden))
        return (hidden + fed).div_(RESIDUAL_DIVISOR)


def rotate(x: Tensor, subs: Tensor, table_dtype: torch.dtype) -> Tensor:
    """Turns x (..., D) by the sub index (...) over the whole width; element j pairs with j + D/2 (SPEC §4).

    The table's dtype also holds the angles, and in float16 that shows: the published model was run that way.
    """
    exponents = torch.arange(0, x.shape[-1], 2, dtype=torch.float32, device=x.device) / x.shape[-1]
    frequencies = (1.0 / ROTARY_BASE**exponents).to(table_dtype)
    angles = (subs.to(table_dtype) * ROTARY_DISTANCE_SCALE)[..., None] * frequencies  # (..., D/2)
    cos, sin = angles.cos(), angles.sin()
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(x.dtype)


def taken(states: Tensor, places: Tensor) -> Tensor:
    """States (B, L, D) at places (B, R) -> (B, R, D)."""
    return states.gather(1, places[:, :, None].expand(-1, -1, states.shape[2]))


def divided(x: Tensor, divisor: float | None) -> Tensor:
    return x if divisor is None else x / divisor
