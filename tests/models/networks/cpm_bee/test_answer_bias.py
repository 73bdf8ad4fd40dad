"""What a step of answers adds to attention scores, against a plain loop over the past of every beam."""

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from models.networks.cpm_bee.answer_bias import AnswerBias, DecodeStep
from models.networks.cpm_bee.config import CPMBeeConfig
from models.networks.cpm_bee.data_tree import DataTree
from models.networks.cpm_bee.packing import PackedBatch, pack_chat
from models.networks.cpm_bee.position_bias import PositionBias
from models.networks.cpm_bee.tokenizer import Tokenizer

Pack = Callable[[Sequence[str]], PackedBatch]
BEAMS, STEPS = 3, 4
Fed = tuple[int, int]  # segment and position


def make(config: CPMBeeConfig, batch: PackedBatch, num_beams: int = BEAMS) -> AnswerBias:
    torch.manual_seed(0)
    position_bias = PositionBias(config).requires_grad_(False)
    return AnswerBias(position_bias, batch, num_beams, STEPS)


def step_of(segments: Tensor, positions: Tensor) -> DecodeStep:
    zeros = torch.zeros_like(segments)
    return DecodeStep(zeros, zeros, positions, segments)


def value(bias: AnswerBias, batch: PackedBatch, row: int, query: int, key: int, distance: int) -> Tensor:
    """The learned bias (H,) of a key's segment, seen from a query's, by the tree's relation or the distance."""
    relation = int(batch.segment_rel[row, query * int(batch.num_segments[row, -1]) + key])
    return bias.position_bias(torch.tensor([[[relation]]]), torch.tensor([[[distance]]]))[0, :, 0, 0]


@pytest.mark.slow
def test_a_beam_sees_the_prompt_and_its_own_past(config: CPMBeeConfig, pack: Pack) -> None:
    batch = pack(["what is in the image?", "a"])
    answer = batch.predict_segments[0][0][0]
    bias = make(config, batch)
    generator = torch.Generator().manual_seed(5)
    length = batch.ids.shape[1]
    owners: list[list[list[int]]] = [[[] for _ in range(BEAMS)] for _ in range(2)]  # slots of each beam's past
    for position in range(STEPS):
        segments = torch.full((2, BEAMS), answer)
        scores = bias.extend(step_of(segments, torch.full((2, BEAMS), position)), position).scores
        assert scores.shape == (2, config.num_heads, BEAMS, length + (position + 1) * BEAMS)
        for row in range(2):
            for beam in range(BEAMS):
                owners[row][beam] = [*owners[row][beam], position * BEAMS + beam]
                for key in range(length):
                    expected = torch.full((config.num_heads,), -math.inf)
                    if batch.num_segments[row, key]:  # not padding
                        expected = value(bias, batch, row, answer, int(batch.segments[row, key]), 0)
                    assert torch.equal(scores[row, :, beam, key], expected)
                for slot in range((position + 1) * BEAMS):
                    expected = torch.full((config.num_heads,), -math.inf)
                    if slot in owners[row][beam]:
                        expected = value(bias, batch, row, answer, answer, slot // BEAMS - position)
                    assert torch.equal(scores[row, :, beam, length + slot], expected), (row, beam, slot)
        parents = torch.randint(0, BEAMS, (2, BEAMS), generator=generator)
        bias.reorder(parents)
        owners = [[list(row[int(parents[b, k])]) for k in range(BEAMS)] for b, row in enumerate(owners)]


def test_a_later_leaf_sees_an_earlier_one_by_their_relation_in_the_tree(
    config: CPMBeeConfig, tokenizer: Tokenizer
) -> None:
    tree: DataTree = {"question": "what is red?", "<ans>": {"a": "", "b": ""}}
    batch = pack_chat([tree], tokenizer)
    first, second = (segment for segment, _ in batch.predict_segments[0])
    bias = make(config, batch, num_beams=1)
    for length, (segment, position) in enumerate([(first, 0), (first, 1), (second, 0)]):
        scores = bias.extend(step_of(torch.tensor([[segment]]), torch.tensor([[position]])), length).scores
    own = scores[0, :, 0, batch.ids.shape[1] :]  # (H, 3)
    other = value(bias, batch, 0, second, first, 0)
    assert torch.equal(own[:, 0], other) and torch.equal(own[:, 1], other), "however far: a relation knows no distance"
    assert torch.equal(own[:, 2], value(bias, batch, 0, second, second, 0))
    assert not torch.equal(own[:, 2], other)


def test_no_query_is_blind_and_nothing_is_nan(config: CPMBeeConfig, pack: Pack) -> None:
    batch = pack(["a longer question than the other", "a"])
    bias = make(config, batch)
    step = step_of(torch.tensor([[8] * BEAMS, [0] * BEAMS]), torch.zeros(2, BEAMS, dtype=torch.int64))
    found = bias.extend(step, 0)
    assert found.blind is None
    assert not found.scores.isnan().any()
    assert (found.scores > -math.inf).any(-1).all()
