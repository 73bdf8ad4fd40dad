"""A decoding step's way through the language model: one token of every row, by the device's kind of attention.

R rows, D width, H heads, S answer slots.
"""

import logging
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Protocol

import torch
from torch import Tensor

from models.engines.chat.attention import AttendedRequest, GroupedAttention
from models.engines.chat.kv_pool import KVPool
from models.networks.cpm_bee.model import CPMBee

logger = logging.getLogger(__name__)


AfterLayer = Callable[[int], None]  # with a layer's number, while that layer is there


class StepAttention(Protocol):
    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor: ...


class Forward(Protocol):
    def __call__(
        self,
        requests: Sequence[AttendedRequest],
        distances: Tensor,
        places: Tensor,
        ids: Tensor,
        subs: Tensor,
        after_layer: AfterLayer | None = None,
    ) -> Tensor:
        """Hidden states (R, D) after the output norm, of the token that is fed to every row.

        Args:
            requests: those of the rows, in their order.
            distances: int64 (R, S), columns of the biases by distance, 0 for a slot that is none of a row's past.
            places: int64 (R,), the pool's slots for the tokens' keys and values.
            ids: int64 (R,), the tokens; subs likewise.
        """
        ...

    def release(self) -> None:
        """Gives back what it keeps on the device from step to step; it is made again when it is needed."""


class GroupedForward:
    """One request's attention after the other's, all else over all rows at once."""

    def __init__(self, llm: CPMBee, pool: KVPool, by_distance: Tensor) -> None:
        self._llm = llm
        self._attention = GroupedAttention(pool, by_distance)

    def __call__(
        self,
        requests: Sequence[AttendedRequest],
        distances: Tensor,
        places: Tensor,
        ids: Tensor,
        subs: Tensor,
        after_layer: AfterLayer | None = None,
    ) -> Tensor:
        self._attention.begin(requests, distances, places)
        return run_layers(self._llm, self._attention, ids, subs, after_layer)

    def release(self) -> None:
        """It keeps nothing."""


def run_layers(
    llm: CPMBee, attention: StepAttention, ids: Tensor, subs: Tensor, after_layer: AfterLayer | None = None
) -> Tensor:
    """Ids and sub indices (R,) -> hidden states (R, D) after the output norm."""
    hidden = llm.embed(ids, subs)[None]  # (1, R, D)
    for layer, block in enumerate(llm.blocks):
        normed = block.attention_norm(hidden)
        queries, keys, values = block.attention.project(normed, normed)
        mixed = attention.attend(layer, queries[0], keys[0], values[0])  # (H, R, Dh)
        hidden = block.finish(hidden, block.attention.merge(mixed[None]))
        if after_layer is not None:
            after_layer(layer)
    normed_states: Tensor = llm.output_norm(hidden)
    return normed_states[0]


def choose_forward(llm: CPMBee, pool: KVPool, by_distance: Tensor) -> Forward:
    """The fastest that runs here: on a GPU the kernel over all requests, where Triton is and gives what it should.

    Args:
        by_distance: (2 + max distance, H), -inf first (batch.bias_by_distance).
    """
    keys = pool.keys[0]
    if keys.device.type == "cuda" and _has_kernel(keys.device, keys.shape[1], keys.shape[2], keys.dtype):
        from models.engines.chat.paged.forward import PagedForward  # needs Triton

        return PagedForward(llm, pool, by_distance)
    return GroupedForward(llm, pool, by_distance)


@cache
def _has_kernel(device: torch.device, num_heads: int, dim_head: int, dtype: torch.dtype) -> bool:
    """Whether the kernel compiles for this GPU and agrees with the plain way; said in one line where it does not."""
    if find_spec("triton") is None:
        logger.info("Triton is not installed: attention goes request by request")
        return False
    from models.engines.chat.paged import self_check

    try:
        error = self_check.largest_error(num_heads, dim_head, dtype, device)
    except Exception as failure:  # a compiler that is not there, a GPU that it does not know: anything
        logger.warning("Triton does not run here (%s): attention goes request by request", _first_line(failure))
        return False
    if not error <= self_check.LIMITS[dtype]:
        logger.warning("the attention kernel is off by %.2g here: attention goes request by request", error)
        return False
    return True


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
