"""Attention of ragged requests over the pool: the way of a CPU. `paged/` has a GPU's.

G requests, H heads, R rows of all, K rows of one, N of its slots, L prompt tokens, S answer slots, Dh head width.
"""

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from models.engines.chat.kv_pool import KVPool, SlotTable


class AttendedRequest(Protocol):
    """What attention needs to know of a request: Sequences, or what another rank keeps of them."""

    table: SlotTable
    prompt_length: int
    to_prompt: Tensor  # (H, L) bias of the answer's tokens towards the prompt's
    rows: list[int]

    @property
    def num_answer_slots(self) -> int: ...


# Keys of one request in one layer, above which a copy costs more than the calls that it saves
GATHERED_ELEMENTS = 32_768


class GroupedAttention:
    """Several short requests at once, over a copy of what they see; longer ones one after the other, over the pool.
    `begin` a step, then `attend` in each layer.

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
        self._places = places
        longest = max(request.prompt_length + request.num_answer_slots for request in requests)
        elements = longest * self._pool.keys[0][0].numel()
        self._gathered = None
        if len(requests) > 1 and elements <= GATHERED_ELEMENTS:
            self._gathered = GatheredRequests(requests, self._by_distance, distances)
            return
        self._sizes = [len(request.rows) for request in requests]
        self._runs = [request.table.runs(request.prompt_length + request.num_answer_slots) for request in requests]
        to_answer = self._by_distance[distances].split(self._sizes)  # (K, S, H) each
        self._biases = [_bias(request, own) for request, own in zip(requests, to_answer, strict=True)]

    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Writes the rows' keys and values, then mixes what they see: (H, R, Dh) all."""
        own_keys, own_values = self._pool.keys[layer], self._pool.values[layer]
        own_keys.transpose(0, 1).index_copy_(1, self._places, keys)
        own_values.transpose(0, 1).index_copy_(1, self._places, values)
        if self._gathered is not None:
            return self._gathered.attend(queries, own_keys, own_values)
        parts = zip(queries.split(self._sizes, dim=1), self._runs, self._biases, strict=True)
        return torch.cat([attend(part, own_keys, own_values, runs, bias) for part, runs, bias in parts], dim=1)


class GatheredRequests:
    """What the rows of several requests see, laid side by side: G requests of K rows and L + S slots, the longest's."""

    def __init__(self, requests: Sequence[AttendedRequest], by_distance: Tensor, distances: Tensor) -> None:
        device = distances.device
        prompt_slots = max(request.prompt_length for request in requests)
        answer_slots = max(request.num_answer_slots for request in requests)
        slots = np.empty((len(requests), prompt_slots + answer_slots), dtype=np.int64)
        for places, request in zip(slots, requests, strict=True):
            _fill_slots(places, request, prompt_slots)
        self._slots = torch.from_numpy(slots).flatten().to(device)  # (G * (L + S),)
        self._num_slots = prompt_slots + answer_slots

        sizes = [len(request.rows) for request in requests]
        num_rows = max(sizes)
        self._shape = (len(requests), num_rows)
        self._rows: Tensor | None = None
        distances = distances[:, :answer_slots]
        if min(sizes) < num_rows:
            own: list[int] = []
            kept: list[int] = []
            first = 0
            for size in sizes:
                kept += range(len(own), len(own) + size)
                own += [first + min(row, size - 1) for row in range(num_rows)]
                first += size
            self._rows = torch.tensor(own, device=device)  # (G * K,), a request's last row again where it has fewer
            self._kept = torch.tensor(kept, device=device)  # (R,) of the G * K
            distances = distances[self._rows]

        to_prompt = pad_sequence([one.to_prompt.t() for one in requests], batch_first=True, padding_value=-math.inf)
        to_answer = by_distance[distances].view(*self._shape, answer_slots, -1)  # (G, K, S, H)
        bias = to_answer.new_empty(to_answer.shape[3], *self._shape, self._num_slots)  # (H, G, K, L + S)
        bias[..., :prompt_slots] = to_prompt.permute(2, 0, 1)[:, :, None]
        bias[..., prompt_slots:] = to_answer.permute(3, 0, 1, 2)
        self._bias = bias.flatten(0, 1)  # (H * G, K, L + S)

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Mixed values (H, R, Dh).

        Args:
            queries: (H, R, Dh).
            keys: the pool's of one layer, (slots, H, Dh); values likewise.
        """
        asking = queries if self._rows is None else queries[:, self._rows]
        asking = asking.reshape(-1, self._shape[1], asking.shape[2])  # (H * G, K, Dh)
        own_keys, own_values = self._taken(keys), self._taken(values)
        if asking.dtype == torch.float32:  # two plain products are faster on a CPU
            scores = torch.baddbmm(self._bias, asking, own_keys.transpose(1, 2), alpha=asking.shape[2] ** -0.5)
            mixed = torch.bmm(torch.softmax(scores, dim=-1), own_values)
        else:  # it keeps its sums in float32
            states = (asking[None], own_keys[None], own_values[None])
            mixed = F.scaled_dot_product_attention(*states, attn_mask=self._bias[None])[0]
        mixed = mixed.unflatten(0, (queries.shape[0], -1)).flatten(1, 2)  # (H, G * K, Dh)
        return mixed if self._rows is None else mixed[:, self._kept]

    def _taken(self, pooled: Tensor) -> Tensor:
        """The pool's (slots, H, Dh) -> (H * G, L + S, Dh)."""
        return pooled.transpose(0, 1).index_select(1, self._slots).view(-1, self._num_slots, pooled.shape[2])


def _fill_slots(places: "np.ndarray[Any, np.dtype[np.int64]]", request: AttendedRequest, prompt_slots: int) -> None:
    """Of the request's slots, the answer's from `prompt_slots` on; its first one, which nothing sees again, in place of
    those that it lacks."""
    length, num_slots = request.prompt_length, request.prompt_length + request.num_answer_slots
    runs = request.table.runs(num_slots)
    slots = np.concatenate([np.arange(first, end) for first, end in runs])
    places[:] = slots[0]
    places[:length] = slots[:length]
    places[prompt_slots : prompt_slots + num_slots - length] = slots[length:]


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
