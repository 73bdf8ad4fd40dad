"""Shares of a model: together they are the whole, and what each computes adds up to it."""

import dataclasses

import pytest
import torch

from models.checkpoints.weights import set_parameter
from models.networks.cpm_bee.config import CPMBeeConfig
from models.networks.cpm_bee.folding import fold_scalings
from models.networks.cpm_bee.model import CPMBee
from models.networks.cpm_bee.position_bias import AttentionBias
from models.networks.cpm_bee.sharding import Shard, check_divisible, narrow

CONFIG = CPMBeeConfig(vocab_size=13, dim_model=8, dim_ff=24, num_layers=2, num_heads=4, dim_head=6, half=False)


def share(whole: CPMBee, shard: Shard) -> CPMBee:
    with torch.device("meta"):
        part = CPMBee(CONFIG)
    narrow(part, shard)
    for name, weight in whole.state_dict().items():
        wanted = shard.part(name, tuple(weight.shape))
        set_parameter(part, name, weight[wanted].clone() if wanted else weight.clone())
    return part


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_spans_follow_one_another_to_the_end(size: int) -> None:
    numbers = list(range(13))
    spans = [numbers[Shard(rank, size).span(13)] for rank in range(size)]
    assert sum(spans, []) == numbers
    assert max(map(len, spans)) == Shard(0, size).width(13)


@pytest.mark.parametrize("size", [2, 4])
def test_every_weight_is_shared_out_but_norms(size: int) -> None:
    whole = CPMBee(CONFIG)
    for name, weight in whole.state_dict().items():
        parts = [Shard(rank, size).part(name, tuple(weight.shape)) for rank in range(size)]
        if "norm" in name:
            assert parts == [()] * size
            continue
        assert torch.cat([weight[part].flatten() for part in parts]).sort()[0].equal(weight.flatten().sort()[0]), name
        assert all(weight[part].numel() < weight.numel() for part in parts)


@pytest.mark.parametrize("is_folded", [False, True], ids=["published", "folded"])
@pytest.mark.parametrize("size", [2, 4])
@torch.inference_mode()
def test_what_the_shares_compute_adds_up(size: int, is_folded: bool) -> None:
    """Each share folded by itself: the divisors are the whole model's."""
    torch.manual_seed(1)
    whole = CPMBee(CONFIG).requires_grad_(False)
    shares = [share(whole, Shard(rank, size)) for rank in range(size)]
    if is_folded:
        for model in (whole, *shares):
            fold_scalings(model)
    x, bias = torch.randn(1, 5, 8), torch.randn(1, 4, 5, 5)

    def attended(model: CPMBee, scores: torch.Tensor) -> torch.Tensor:
        attention = model.blocks[1].attention
        return attention.attend(*attention.project(x, x), AttentionBias(scores, None))

    attention = sum(attended(model, part) for model, part in zip(shares, bias.chunk(size, dim=1), strict=True))
    torch.testing.assert_close(attention, attended(whole, bias))
    feed_forward = sum(model.blocks[0].feed_forward(x) for model in shares)
    torch.testing.assert_close(feed_forward, whole.blocks[0].feed_forward(x))
    relations, distances = torch.zeros(1, 2, 2, dtype=torch.int64), torch.tensor([[[0, 1], [-1, 0]]])
    by_head = torch.cat([model.position_bias(relations, distances) for model in shares], dim=1)
    assert torch.equal(by_head, whole.position_bias(relations, distances))


def test_a_narrowed_model_counts_its_own() -> None:
    with torch.device("meta"):
        model = CPMBee(CONFIG)
    narrow(model, Shard(1, 2))
    assert model.config == dataclasses.replace(CONFIG, num_heads=2, dim_ff=12)
    attention, feed_forward = model.blocks[0].attention, model.blocks[0].feed_forward
    assert (attention.query.out_features, attention.output.in_features, attention.output.out_features) == (12, 12, 8)
    assert (feed_forward.gate.out_features, feed_forward.down.in_features) == (12, 12)


def test_only_what_divides_is_shared() -> None:
    for size in (1, 2, 4):
        check_divisible(CONFIG, size)
    with pytest.raises(
        ValueError, match="3 devices cannot share this model's 4 attention heads evenly; allowed: 1, 2, 4"
    ):
        check_divisible(CONFIG, 3)
    odd = dataclasses.replace(CONFIG, dim_ff=26)
    with pytest.raises(ValueError, match="4 devices .* 26 feed-forward columns evenly; allowed: 1, 2$"):
        check_divisible(odd, 4)
