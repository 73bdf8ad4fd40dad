"""Biases and masks against a plain reading of SPEC §4.1 and §4.2, entry by entry."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models.networks.cpm_bee.config import CPMBeeConfig
from models.networks.cpm_bee.packing import PackedBatch
from models.networks.cpm_bee.position_bias import (
    AttentionBias,
    PositionBias,
    bucket_table,
    distance_buckets,
    full_bias,
    prompt_bias,
    whole_prompt_bias,
)

LENGTH = 9
SEGMENTS = 4


def bucket(distance: int, num_buckets: int, max_distance: int) -> int:
    half, exact = num_buckets // 2, num_buckets // 4
    far = abs(distance)
    if far >= exact:
        far = min(half - 1, exact + int(math.log(far / exact) / math.log(max_distance / exact) * (half - exact)))
    return (half if distance > 0 else 0) + far


@pytest.mark.parametrize(("num_buckets", "max_distance"), [(16, 40), (256, 2048), (32, 100), (90, 512), (7, 20)])
def test_buckets_of_distances(num_buckets: int, max_distance: int) -> None:
    distances = range(-max_distance - 50, max_distance + 51)
    expected = [bucket(distance, num_buckets, max_distance) for distance in distances]
    table = bucket_table(num_buckets, max_distance)
    assert distance_buckets(torch.tensor(distances), table).tolist() == expected


def test_published_buckets_widen_from_64_on() -> None:
    distances = torch.tensor([0, -1, -63, -64, -67, -68, -2048, -9999, 1, 64, 68, 9999])
    expected = [0, 1, 63, 64, 64, 65, 127, 127, 129, 192, 193, 255]
    assert distance_buckets(distances, bucket_table(256, 2048)).tolist() == expected


@pytest.fixture
def position_bias(config: CPMBeeConfig) -> PositionBias:
    torch.manual_seed(1)
    return PositionBias(config).requires_grad_(False)


def random_batch(seed: int, padding: str) -> PackedBatch:
    """Two rows of noise, the second one short, with several samples and spans."""
    generator = torch.Generator().manual_seed(seed)

    def noise(high: int, *shape: int) -> Tensor:
        return torch.randint(0, high, shape or (2, LENGTH), generator=generator)

    lengths = torch.tensor([LENGTH, 5])
    index = torch.arange(LENGTH).expand(2, -1)
    real = index < lengths[:, None] if padding == "right" else index >= LENGTH - lengths[:, None]
    return PackedBatch(
        ids=noise(20) * real,
        subs=noise(2) * real,
        positions=(index - (0 if padding == "right" else LENGTH - lengths[:, None])) * real,
        segments=noise(SEGMENTS) * real,
        contexts=noise(2) * real,
        num_segments=SEGMENTS * real,
        segment_rel_offsets=noise(3) * real,
        samples=noise(3) * real,
        spans=noise(2) * real,
        lengths=lengths,
        segment_rel=noise(20, 2, SEGMENTS**2 + 3) * noise(2, 2, SEGMENTS**2 + 3),
        extension_ids=noise(1, 0),
        extension_subs=noise(1, 0),
        image_bounds=[[], []],
        predict_segments=[[], []],
        decode_tables=[{}, {}],
        padding=padding,  # type: ignore[arg-type]
    )


def entry(batch: PackedBatch, bias: PositionBias, row: int, query: int, key: int, full: bool) -> tuple[bool, Tensor]:
    """Whether a query sees a key, and the bias (H,) between them."""
    own_sample, other_sample = int(batch.samples[row, query]), int(batch.samples[row, key])
    same_span = not full or bool(batch.spans[row, query] == batch.spans[row, key])
    number = batch.segments[row, query] * batch.num_segments[row, query] + batch.segments[row, key]
    relation = int(batch.segment_rel[row, number + batch.segment_rel_offsets[row, query]])
    if own_sample != other_sample or not same_span:
        relation = 1
    distance = key - query if full else int(batch.positions[row, key] - batch.positions[row, query])
    near = bucket(distance, bias.num_position_buckets, bias.max_distance)
    value = bias.weight[bias.num_position_buckets + relation - 1 if relation > 0 else near]

    visible = bool(batch.contexts[row, key]) or (not batch.contexts[row, query] and distance <= 0)
    visible = visible and own_sample in (0, other_sample) and same_span
    if full:
        return visible and max(query, key) < int(batch.lengths[row]), value
    return visible and int(batch.num_segments[row, key]) != 0, value


def compare(got: AttentionBias, batch: PackedBatch, bias: PositionBias, full: bool) -> None:
    assert got.blind is not None
    for row in range(2):
        for query in range(LENGTH):
            entries = [entry(batch, bias, row, query, key, full) for key in range(LENGTH)]
            blind = not any(visible for visible, _ in entries)
            assert got.blind[row, 0, query, 0] == blind
            for key, (visible, value) in enumerate(entries):
                expected = value if visible or blind else torch.full_like(value, -math.inf)
                assert torch.equal(got.scores[row, :, query, key], expected)


@pytest.mark.parametrize("seed", range(3))
def test_full_forward_bias_and_mask(position_bias: PositionBias, seed: int) -> None:
    batch = random_batch(seed, "right")
    bias = full_bias(position_bias, batch)
    compare(bias, batch, position_bias, full=True)
    assert bias.blind is not None and bias.blind[1, 0, 5:].all()


@pytest.mark.parametrize("seed", range(3))
def test_prompt_bias_and_mask(position_bias: PositionBias, seed: int) -> None:
    batch = random_batch(seed, "left")
    compare(prompt_bias(position_bias, batch), batch, position_bias, full=False)


def test_a_whole_prompt_needs_no_mask(position_bias: PositionBias) -> None:
    noise = random_batch(0, "left")
    ones, zeros = torch.ones_like(noise.ids), torch.zeros_like(noise.ids)
    whole = replace(
        noise,
        positions=torch.arange(LENGTH).expand(2, -1),
        segments=(torch.arange(LENGTH) % SEGMENTS).expand(2, -1),
        contexts=ones,
        num_segments=SEGMENTS * ones,
        segment_rel_offsets=zeros,
        samples=zeros,
    )
    expected = prompt_bias(position_bias, whole)
    assert expected.blind is not None and not expected.blind.any()
    got = whole_prompt_bias(position_bias, whole)
    assert got.blind is None and torch.equal(got.scores, expected.scores)


def test_spans_matter_to_the_full_forward_alone(position_bias: PositionBias) -> None:
    batch = random_batch(0, "right")
    batch = replace(batch, samples=torch.zeros_like(batch.samples))
    joined = replace(batch, spans=torch.zeros_like(batch.spans))
    assert not torch.equal(full_bias(position_bias, batch).scores, full_bias(position_bias, joined).scores)
    assert torch.equal(prompt_bias(position_bias, batch).scores, prompt_bias(position_bias, joined).scores)
