"""Attention of ragged requests over the pool, one request after the other: the way of a CPU. `paged/` has a GPU's.

H heads, R rows of all requests, K rows of one, N of its slots, L prompt tokens, S answer slots, Dh head width.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from models.engines.chat.kv_pool import KVPool, SlotTable


class AttendedRequest(Protocol):
    """What attention needs to know of a request: Sequences, or what another rank keeps of them."""

    table: SlotTable
    prompt_length: int
    to_prompt: Tensor  # (H, L) bias of the answer's tokens towards the prompt's
    rows: list[int]

    @property
    def num_answer_slots(self) -> int: ...


class GroupedAttention:
    """One request after the other. `begin` a step, then `attend` in each layer.

    Args:
        by_distance: (2 + max distance, H), -inf first (batch.bias_by_distance).
    """

    def __init__(self, pool: KVPool, by_distance: Tensor) -> None:
        self._pool = pool
        self._by_distance = by_distance

    def begin(self, requests: Sequence[AttendedRequest], distances: Tensor, places: Tensor) -> None:
        """Takes in what the step's rows see.

        Args:
            distances: int64 (R, S), columns of `by_distance`, 0 for a slot that is none of a row's past.
            places: int64 (R,), slots of the pool for the rows' keys and values.
        """
        self._sizes = [len(request.rows) for request in requests]
        self._places = places
        self._runs = [request.table.runs(request.prompt_length + request.num_answer_slots) for request in requests]
        to_answer = self._by_distance[distances].split(self._sizes)  # (K, S, H) each
        self._biases = [_bias(request, own) for request, own in zip(requests, to_answer, strict=True)]

    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Writes the rows' keys and values, then mixes what they see: (H, R, Dh) all."""
        own_keys, own_values = self._pool.keys[layer], self._pool.values[layer]
        own_keys[self._places] = keys.transpose(0, 1)  # (R, H, Dh)
        own_values[self._places] = values.transpose(0, 1)
        parts = zip(queries.split(self._sizes, dim=1), self._runs, self._biases, strict=True)
        return torch.cat([attend(part, own_keys, own_values, runs, bias) for part, runs, bias in parts], dim=1)


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


def _bias(request: AttendedRequest, to_answer: Tensor) -> Tensor:
    """One request's (H, K, N), from that towards its answer (K, S, H)."""
    prompt = request.to_prompt[:, None, :].expand(-1, len(to_answer), -1)  # (H, K, L)
    return torch.cat([prompt, to_answer[:, : request.num_answer_slots].permute(2, 0, 1)], dim=-1)
