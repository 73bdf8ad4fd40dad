"""What is added to attention scores: a learned bias by distance or by tree relation, and -inf where a key is hidden.

B batch, L length, H heads, S segments; Q queries and N keys of one call.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.networks.cpm_bee.config import CPMBeeConfig
from models.networks.cpm_bee.packing import PackedBatch

OTHER_SAMPLE = 1  # the relation of tokens of different samples or spans


@dataclass(frozen=True)
class AttentionBias:
    """Added to the scores of every layer; `blind` marks queries that see no key, whose attention output is 0."""

    scores: Tensor  # (B, H, Q, N) in the weights' dtype, -inf where hidden; rows of blind queries are finite
    blind: Tensor | None  # (B, 1, Q, 1) bool; None: every query sees a key

    def of_queries(self, places: Tensor) -> "AttentionBias":
        """That of the queries at places (B, R) alone."""
        rows = places[:, None, :, None]  # (B, 1, R, 1)
        scores = self.scores.gather(2, rows.expand(-1, self.scores.shape[1], -1, self.scores.shape[3]))
        return AttentionBias(scores, None if self.blind is None else self.blind.gather(2, rows))


class PositionBias(nn.Module):
    """One learned value per head and bucket (SPEC §4.1): distance buckets first, then those of segment relations."""

    def __init__(self, config: CPMBeeConfig) -> None:
        super().__init__()
        self.num_position_buckets = config.num_position_buckets
        self.max_distance = config.max_distance
        buckets = config.num_position_buckets + config.num_segment_buckets
        self.weight = nn.Parameter(torch.randn(buckets, config.num_heads))

        self._table: Tensor | None = None  # made at the first use, where no state dict and no meta device loses it

    def forward(self, relations: Tensor, distances: Tensor) -> Tensor:
        """Segment relations and key minus query positions, int64 (B, Q, N) both -> (B, H, Q, N)."""
        if self._table is None or self._table.device != distances.device:
            self._table = bucket_table(self.num_position_buckets, self.max_distance).to(distances.device)
        by_distance = distance_buckets(distances, self._table)
        buckets = torch.where(relations > 0, self.num_position_buckets + relations - 1, by_distance)
        # Taken from the transposed table, so that a batch of one needs no copy to put the heads in front.
        return self.weight.t()[:, buckets].transpose(0, 1)


def bucket_table(num_buckets: int, max_distance: int) -> Tensor:
    """Buckets of the distances -max_distance..max_distance: exact near by, then logarithmic (SPEC §4.1).

    Made on the CPU: where a logarithm falls on a whole number, devices round it to different sides.
    """
    half = num_buckets // 2
    exact = half // 2
    far = torch.arange(max_distance + 1, device="cpu")
    logarithms = torch.log(far.clamp(min=1).float() / exact) / math.log(max_distance / exact)
    backwards = torch.where(far < exact, far, (exact + (logarithms * (half - exact)).long()).clamp(max=half - 1))
    return torch.cat([backwards.flip(0), half + backwards[1:]])


def distance_buckets(distances: Tensor, table: Tensor) -> Tensor:
    """Bucket of every key minus query position, by a table of `bucket_table`."""
    max_distance = len(table) // 2
    return table[distances.clamp(-max_distance, max_distance) + max_distance]


def full_bias(position_bias: PositionBias, batch: PackedBatch) -> AttentionBias:
    """Of the full forward (training, Paint): answers see what stands before them; padding on the right sees nothing."""
    length = batch.ids.shape[1]
    positions = torch.arange(length, device=batch.ids.device)
    same_sample = _pairs_equal(batch.samples)
    same_span = _pairs_equal(batch.spans)
    relations = _relations(batch).masked_fill(~(same_sample & same_span), OTHER_SAMPLE)
    distances = (positions[None, :] - positions[:, None]).expand_as(relations)

    is_context = batch.contexts.bool()
    is_real = positions < batch.lengths[:, None]  # (B, L)
    visible = is_context[:, None, :] | (~is_context[:, :, None] & (distances <= 0))  # (B, L, L)
    visible = visible & (same_sample | (batch.samples == 0)[:, :, None]) & same_span
    visible = visible & is_real[:, :, None] & is_real[:, None, :]
    return _masked(position_bias(relations, distances), visible)


def prompt_bias(position_bias: PositionBias, batch: PackedBatch) -> AttentionBias:
    """Of a prompt in incremental decoding: padding on the left, which has no segments, is never seen (SPEC §4.2)."""
    same_sample = _pairs_equal(batch.samples)
    relations = _relations(batch).masked_fill(~same_sample, OTHER_SAMPLE)
    distances = batch.positions[:, None, :] - batch.positions[:, :, None]  # (B, L, L)

    is_context = batch.contexts.bool()
    visible = is_context[:, None, :] | (~is_context[:, :, None] & (distances <= 0))
    visible = visible & (same_sample | (batch.samples == 0)[:, :, None]) & (batch.num_segments != 0)[:, None, :]
    return _masked(position_bias(relations, distances), visible)


def whole_prompt_bias(position_bias: PositionBias, batch: PackedBatch) -> AttentionBias:
    """`prompt_bias` of prompts without padding, each one sample and all context: tokens all see each other."""
    distances = batch.positions[:, None, :] - batch.positions[:, :, None]  # (B, L, L)
    return AttentionBias(position_bias(_relations(batch), distances), None)


def _relations(batch: PackedBatch) -> Tensor:
    """Tree relation of every query and key, int64 (B, L, L)."""
    rows = batch.segments * batch.num_segments + batch.segment_rel_offsets  # (B, L)
    index = rows[:, :, None] + batch.segments[:, None, :]
    return batch.segment_rel.gather(1, index.flatten(1)).view_as(index)


def _pairs_equal(values: Tensor) -> Tensor:
    return values[:, :, None] == values[:, None, :]


def _masked(bias: Tensor, visible: Tensor) -> AttentionBias:
    """Bias (B, H, Q, N) and visibility (B, Q, N) as one; a row of -inf alone would turn into NaN in the softmax."""
    blind = ~visible.any(dim=-1, keepdim=True)  # (B, Q, 1)
    hidden = ~(visible | blind)
    return AttentionBias(bias.masked_fill(hidden[:, None], -math.inf), blind[:, None])
