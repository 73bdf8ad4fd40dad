"""Attention of ragged requests over the pool, one request after the other: the way of a CPU.

H heads, K rows of a request, N of its slots, Dh head width.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def attend(queries: Tensor, keys: Tensor, values: Tensor, runs: Sequence[tuple[int, int]], bias: Tensor) -> Tensor:
    """Mixed values (H, K, Dh) of one request. No key is copied, in however many runs its slots lie.

    Args:
        queries: (H, K, Dh).
        keys: the pool's of one layer, (slots, H, Dh); values likewise.
        runs: (first, end) of the request's slots, N in all.
        bias: (H, K, N), -inf where a slot is none of a row's past.
    """
    if len(runs) == 1:
        first, end = runs[0]
        own_keys, own_values = keys[first:end].transpose(0, 1), values[first:end].transpose(0, 1)  # (H, N, Dh)
        return F.scaled_dot_product_attention(queries[None], own_keys[None], own_values[None], bias[None])[0]
    scaled = queries * queries.shape[-1] ** -0.5
    scores = torch.cat([scaled @ keys[first:end].permute(1, 2, 0) for first, end in runs], dim=-1) + bias
    weights = (
        torch.softmax(scores, dim=-1, dtype=torch.float32).to(values.dtype).split([b - a for a, b in runs], dim=-1)
    )
    mixed = [part @ values[first:end].transpose(0, 1) for part, (first, end) in zip(weights, runs, strict=True)]
    return torch.stack(mixed).sum(0)
