"""A GPU's way of attention in a decoding step: one launch a layer over all requests, on buffers that stay in place.

Rows are padded to one of a few counts, and each count has buffers of its own: what a CUDA graph reads does not move.
H heads, R rows (padded), S answer slots, Dh head width, P parts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.engines.chat.attention import AttendedRequest
from models.engines.chat.kv_pool import KVPool
from models.engines.chat.paged import kernels

ROW_COUNTS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
PROGRAMS = 512  # that fill a GPU: some four for each of its processors
ANSWER_SLOTS = 1024  # of a row, for which there is room from the start


def padded_rows(count: int) -> int:
    """The number of rows that so many are padded to."""
    return next((rows for rows in ROW_COUNTS if rows >= count), -(-count // ROW_COUNTS[-1]) * ROW_COUNTS[-1])


@dataclass
class StepBuffers:
    """What one step with so many rows reads and writes; the next one finds it at the same place."""

    ids: Tensor  # int64 (R,), 0 in padding
    subs: Tensor  # int64 (R,)
    places: Tensor  # int64 (R,) slots of the pool, -1 in padding
    requests: Tensor  # int32 (R, 8)
    distances: Tensor  # int32, flat
    mixed: Tensor  # (R, H, Dh)
    parts: tuple[Tensor, Tensor, Tensor] | None
    tile_rows: int  # at least as many as one request has

    @property
    def num_rows(self) -> int:
        return len(self.ids)

    @classmethod
    def make(cls, num_rows: int, tile_rows: int, num_distances: int, pool: KVPool) -> "StepBuffers":
        _, heads, dim = pool.keys[0].shape
        device, dtype = pool.keys[0].device, pool.keys[0].dtype
        num_parts = min(-(-PROGRAMS // (num_rows * heads)), kernels.MAX_PARTS.value)
        parts = None
        if num_parts > 1:
            shape = (num_parts, num_rows, heads)
            sums = torch.zeros(*shape, dim, device=device)
            parts = sums, torch.zeros(shape, device=device), torch.zeros(shape, device=device)
        return cls(
            ids=torch.zeros(num_rows, dtype=torch.int64, device=device),
            subs=torch.zeros(num_rows, dtype=torch.int64, device=device),
            places=torch.full((num_rows,), -1, device=device),
            requests=torch.zeros(num_rows, kernels.COLUMNS.value, dtype=torch.int32, device=device),
            distances=torch.zeros(num_distances, dtype=torch.int32, device=device),
            mixed=torch.zeros(num_rows, heads, dim, dtype=dtype, device=device),
            parts=parts,
            tile_rows=tile_rows,
        )


class PagedAttention:
    """Attention over the pool of all rows of a step. `begin` a step, then `attend` in each layer.

    Args:
        by_distance: (2 + max distance, H), -inf first (batch.bias_by_distance).
    """

    def __init__(self, pool: KVPool, by_distance: Tensor) -> None:
        assert pool.keys[0].is_contiguous(), "the kernel wants a pool that is not laid out by head"
        _, heads, _ = pool.keys[0].shape
        device = by_distance.device
        self._pool = pool
        self._by_distance = by_distance.t().contiguous()  # (H, columns)
        self._blocks = torch.zeros(pool.allocator.num_blocks, dtype=torch.int32, device=device)
        self._prompt_bias = torch.zeros(heads * pool.num_slots, dtype=by_distance.dtype, device=device)
        self._by_rows: dict[int, StepBuffers] = {}
        self.buffers: StepBuffers  # of this step

    def begin(
        self, requests: Sequence[AttendedRequest], distances: Tensor, places: Tensor, ids: Tensor, subs: Tensor
    ) -> None:
        """Takes in what the step's rows see.

        Args:
            distances: int64 (rows, S), columns of `by_distance`, 0 for a slot that is none of a row's past.
            places: int64 (rows,), slots of the pool for the rows' keys and values.
            ids: int64 (rows,), fed tokens; subs likewise.
        """
        buffers = self.buffers = self._buffers(requests, len(ids), distances.numel())
        table, blocks = request_table(requests, distances.shape[1])
        device = ids.device
        buffers.requests.zero_()
        buffers.requests[: len(requests)] = torch.tensor(table, dtype=torch.int32).to(device)
        self._blocks[: len(blocks)] = torch.tensor(blocks, dtype=torch.int32).to(device)
        biases = [request.to_prompt.flatten() for request in requests]
        torch.cat(biases, out=self._prompt_bias[: sum(map(len, biases))])
        buffers.distances[: distances.numel()] = distances.flatten()
        for buffer, values, filler in ((buffers.ids, ids, 0), (buffers.subs, subs, 0), (buffers.places, places, -1)):
            buffer[: len(values)] = values
            buffer[len(values) :] = filler

    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Writes the rows' keys and values, then mixes what they see: (H, R, Dh) all. Good until the next layer."""
        buffers, own_keys, own_values = self.buffers, self._pool.keys[layer], self._pool.values[layer]
        kernels.write(keys, values, own_keys, own_values, buffers.places)
        kernels.attend(
            queries,
            own_keys,
            own_values,
            buffers.requests,
            self._blocks,
            self._prompt_bias,
            buffers.distances,
            self._by_distance,
            buffers.mixed,
            buffers.parts,
            buffers.tile_rows,
        )
        return buffers.mixed.transpose(0, 1)

    def _buffers(self, requests: Sequence[AttendedRequest], num_rows: int, num_distances: int) -> StepBuffers:
        padded = padded_rows(num_rows)
        most_rows = max(len(request.rows) for request in requests)
        tile_rows = max(1 << (most_rows - 1).bit_length(), kernels.FEWEST_ROWS)
        found = self._by_rows.get(padded)
        if found is None or len(found.distances) < num_distances or found.tile_rows < tile_rows:
            room = max(2 * num_distances, padded * ANSWER_SLOTS)
            found = self._by_rows[padded] = StepBuffers.make(padded, tile_rows, room, self._pool)
        return found


def request_table(requests: Sequence[AttendedRequest], width: int) -> tuple[list[list[int]], list[int]]:
    """A kernel's view of requests: a line of each (kernels.py names its columns), and all of their blocks.

    Args:
        width: of each row's distances.
    """
    table: list[list[int]] = []
    blocks: list[int] = []
    first_row = first_bias = 0
    for request in requests:
        num_slots = request.prompt_length + request.num_answer_slots
        num_rows = len(request.rows)
        table.append(
            [
                first_row,
                num_rows,
                num_slots,
                request.prompt_length,
                len(blocks),
                first_bias,
                first_row * width,
                width,
            ]
        )
        blocks += request.table.blocks
        first_row += num_rows
        first_bias += request.to_prompt.numel()
    return table, blocks
