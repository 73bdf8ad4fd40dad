"""What beams add to their attention scores while they decode, and which answer slots each of them descends from.

B batch, K beams, L prompt length, H heads, S segments, T answer tokens at most.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from models.networks.cpm_bee.packing import PackedBatch
from models.networks.cpm_bee.position_bias import OTHER_SAMPLE, AttentionBias, PositionBias


@dataclass
class DecodeStep:
    """One token for every beam, int64 (B, K) all. `positions` count from 0 in every answer leaf (SPEC §4.2)."""

    ids: Tensor
    subs: Tensor
    positions: Tensor
    segments: Tensor


class AnswerBias:
    """Bias of the answer's tokens towards the prompt (constant per segment) and towards each other (grows by a step).

    At every step each of the K beams fills one slot. No slot ever moves: beams that change their parent exchange the
    rows of `descends`, which tells the slots of a beam's own past from those of its rivals.
    """

    def __init__(self, position_bias: PositionBias, batch: PackedBatch, num_beams: int, max_new_tokens: int) -> None:
        rows, device = batch.ids.shape[0], batch.ids.device
        self.position_bias = position_bias
        self.prompt = batch
        self.to_prompt = bias_to_prompt(position_bias, batch)  # (B, S, H, L)
        self.batch_index = torch.arange(rows, device=device)[:, None]
        self.own_slots = torch.eye(num_beams, dtype=torch.bool, device=device)
        self.descends = torch.zeros(rows, num_beams, max_new_tokens, num_beams, dtype=torch.bool, device=device)
        self.positions = torch.zeros(rows, max_new_tokens, num_beams, dtype=torch.int64, device=device)
        self.segments = torch.zeros_like(self.positions)

    def extend(self, step: DecodeStep, length: int) -> AttentionBias:
        """Enters the tokens of a step after `length` earlier ones -> scores (B, H, K, L + (length + 1) * K)."""
        self.descends[:, :, length] = self.own_slots
        self.positions[:, length] = step.positions
        self.segments[:, length] = step.segments

        key_positions = self.positions[:, : length + 1].flatten(1)  # (B, N), N = (length + 1) * K
        key_segments = self.segments[:, : length + 1].flatten(1)
        distances = key_positions[:, None, :] - step.positions[:, :, None]  # (B, K, N)
        relations = _answer_relations(self.prompt, step.segments, key_segments)
        to_answer = self.position_bias(relations, distances)  # (B, H, K, N)
        rivals = ~self.descends[:, :, : length + 1].flatten(2)  # (B, K, N)
        to_answer = to_answer.masked_fill(rivals[:, None], -math.inf)
        to_prompt = self.to_prompt[self.batch_index, step.segments].transpose(1, 2)  # (B, H, K, L)
        return AttentionBias(torch.cat([to_prompt, to_answer], dim=-1), blind=None)

    def reorder(self, parents: Tensor) -> None:
        """Beam k goes on from beam `parents[:, k]`, (B, K)."""
        self.descends = self.descends[self.batch_index, parents]


def bias_to_prompt(position_bias: PositionBias, batch: PackedBatch) -> Tensor:
    """Of a context token in any segment of the answer towards the prompt, hidden keys at -inf: (B, S, H, L).

    No answer segment has tokens in the prompt, so no distance enters.
    """
    segments = torch.arange(int(batch.num_segments[:, -1].max()), device=batch.ids.device)
    segments = segments.expand(batch.ids.shape[0], -1)  # (B, S)
    relations = _answer_relations(batch, segments, batch.segments)  # (B, S, L)
    same_sample = batch.samples == batch.samples[:, -1:]  # (B, L)
    relations = relations.masked_fill(~same_sample[:, None, :], OTHER_SAMPLE)
    visible = batch.contexts.bool() & (batch.num_segments != 0)
    visible = visible & (same_sample | (batch.samples[:, -1:] == 0))
    bias: Tensor = position_bias(relations, torch.zeros_like(relations)).transpose(1, 2)  # (B, S, H, L)
    return bias.masked_fill(~visible[:, None, None, :], -math.inf)


def segment_bias_to_whole_prompt(position_bias: PositionBias, batch: PackedBatch, segments: Tensor) -> Tensor:
    """`bias_to_prompt` of one segment (B,) each, where all of the prompt is context of one sample: (B, H, L)."""
    relations = _answer_relations(batch, segments[:, None], batch.segments)  # (B, 1, L)
    return position_bias(relations, torch.zeros_like(relations))[:, :, 0]


def _answer_relations(batch: PackedBatch, query_segments: Tensor, key_segments: Tensor) -> Tensor:
    """Segments (B, Q) and (B, N) -> tree relations (B, Q, N); answer tokens are placed as the last prompt token is."""
    rows = query_segments * batch.num_segments[:, -1:] + batch.segment_rel_offsets[:, -1:]
    index = rows[:, :, None] + key_segments[:, None, :]
    # A row of a batch with fewer segments than the others is never asked for the segments it lacks.
    index = index.clamp(max=batch.segment_rel.shape[1] - 1)
    return batch.segment_rel.gather(1, index.flatten(1)).view_as(index)
