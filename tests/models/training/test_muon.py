"""Orthogonal updates: what they are, what they are for, and that runs with them resume."""

from pathlib import Path

import pytest
import torch
from torch import nn

from models.datasets.examples import Conversation
from models.networks.chat.model import ChatModel
from models.networks.cpm_bee.tokenizer import Tokenizer
from models.training.chat.task import ChatSettings, ChatTask
from models.training.cli import main
from models.training.logs import STEPS_FILE, read_rows
from models.training.muon import Muon, layer_weights, orthogonalise
from models.training.sources import Listed
from tests.models.training_files import Data


@pytest.mark.parametrize("shape", [(16, 16), (12, 40), (40, 12)])
def test_singular_values_come_close_to_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 1e-3
    values = torch.linalg.svdvals(orthogonalise(matrix))
    assert values.shape == (min(shape),)
    assert values.min() > 0.3 and values.max() < 1.3


def test_directions_are_kept() -> None:
    matrix = torch.randn(8, 20, generator=torch.Generator().manual_seed(2))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    cosine = nn.functional.cosine_similarity(orthogonalise(matrix).flatten(), (left @ right).flatten(), dim=0)
    assert cosine > 0.97


def test_updates_are_those_of_torch_but_for_its_bfloat16() -> None:
    generator = torch.Generator().manual_seed(3)
    ours, theirs = (nn.Parameter(torch.ones(24, 8)) for _ in range(2))
    optimizers = [
        Muon([{"params": [ours]}], lr=0.1, weight_decay=0.1),
        torch.optim.Muon([theirs], lr=0.1, weight_decay=0.1),
    ]
    for _ in range(4):
        ours.grad = torch.randn(24, 8, generator=generator)
        theirs.grad = ours.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    ours_moved, theirs_moved = ours.detach() - 1, theirs.detach() - 1
    assert nn.functional.cosine_similarity(ours_moved.flatten(), theirs_moved.flatten(), dim=0) > 0.999
    assert ours_moved.norm() / theirs_moved.norm() == pytest.approx(1, abs=0.02)


def test_convolutions_count_as_matrices_and_biases_are_refused() -> None:
    layer = nn.Conv2d(3, 8, 3)
    before = layer.weight.detach().clone()
    optimizer = Muon([{"params": [layer.weight]}], lr=0.1)
    layer(torch.ones(1, 3, 5, 5)).sum().backward()
    optimizer.step()
    step = (before - layer.weight.detach()).flatten(1) / 0.1
    assert torch.linalg.svdvals(step).max() < 1.3
    with pytest.raises(ValueError, match=r"matrices and convolutions, got shapes \[\(8,\)\]"):
        Muon([{"params": [layer.bias]}], lr=0.1)


def test_the_tower_gives_its_layers_and_not_its_edges(model: ChatModel) -> None:
    found = {id(weight) for weight in layer_weights(model.vision_encoder.layers)}
    names = {name for name, parameter in model.named_parameters() if id(parameter) in found}
    assert len(names) == 2 * 2 * 6  # layers, experts, four projections and two of the feed-forward
    assert all(name.startswith("vision_encoder.layers.") and name.endswith(".weight") for name in names)


def test_a_factor_multiplies_the_rate_of_its_weight() -> None:
    one, other = (nn.Parameter(torch.zeros(8, 4)) for _ in range(2))
    optimizer = Muon([{"params": [one, other], "factors": [1.0, 4.0]}], lr=0.1)
    one.grad = torch.randn(8, 4, generator=torch.Generator().manual_seed(4))
    other.grad = one.grad.clone()
    optimizer.step()
    torch.testing.assert_close(other.detach(), 4 * one.detach())


def test_layers_that_divide_by_the_root_of_their_width_move_as_much_as_others(
    data: Data, model: ChatModel, conversations: list[Conversation]
) -> None:
    task = ChatTask(model, Tokenizer(data.vocabulary), data.vocabulary, Listed(conversations), ChatSettings())
    factors = {id(weight): factor for weight, factor in task.hidden_weights()}
    expected = {
        "llm.layers.0.attention.query.weight": task.model.config.llm.dim_model**0.5,
        "llm.layers.1.feed_forward.down.weight": task.model.config.llm.dim_ff**0.5,
        "vision_encoder.layers.0.query_expert.feed_forward.down.weight": 1.0,
    }
    named = dict(task.model.named_parameters())
    assert {name: factors[id(named[name])] for name in expected} == expected
    assert not any(name.startswith("llm.embedding") and id(value) in factors for name, value in named.items())


@pytest.mark.slow
def test_a_run_with_muon_goes_on_as_if_nothing_had_happened(data: Data, tmp_path: Path) -> None:
    flags = ("--muon-lr", "0.02", "--batch-size", "4", "--save-every", "3", "--resume")
    for steps in ("3", "6"):
        assert main(data.arguments(tmp_path / "twice", *flags, "--steps", steps)) == 0
    assert main(data.arguments(tmp_path / "whole", *flags, "--steps", "6")) == 0
    rows = {name: read_rows(tmp_path / name / STEPS_FILE) for name in ("twice", "whole")}
    losses = {name: [float(row["loss"]) for row in found] for name, found in rows.items()}
    assert losses["twice"] == pytest.approx(losses["whole"], rel=0, abs=1e-5)
    assert [float(row["learning_rate_muon"]) for row in rows["whole"]][-1] == 0.02


@pytest.mark.slow
def test_muon_may_train_all_there_is(data: Data, tmp_path: Path) -> None:
    flags = ("--lora-rank", "2", "--lora-parts", "both", "--muon-lr", "0.02", "--batch-size", "4", "--steps", "2")
    assert main(data.arguments(tmp_path, *flags)) == 0
    rates = {name for name in read_rows(tmp_path / STEPS_FILE)[0] if name.startswith("learning_rate_")}
    assert rates == {"learning_rate_muon"}
