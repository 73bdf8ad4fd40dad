"""Layers that keep their inputs alone: the same gradients for less memory, and nothing changed in evaluation."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.training.recomputation import recompute


class Layer(nn.Module):
    """Counts its forwards."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.num_forwards = 0

    def forward(self, hidden: Tensor, scale: float, bias: Tensor | None) -> Tensor:
        self.num_forwards += 1
        out: Tensor = hidden + scale * self.inner(hidden)
        return out if bias is None else out + bias


def layers() -> list[Layer]:
    torch.manual_seed(0)
    return [Layer(8) for _ in range(3)]


def run(stack: list[Layer], hidden: Tensor) -> Tensor:
    for number, layer in enumerate(stack):
        hidden = layer(hidden, 0.5, torch.ones(8) if number else None)
    return hidden.square().sum()


def count_saved(forward: Callable[[], Tensor]) -> int:
    """Values that autograd keeps for the backward."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(kept.values())


def test_losses_and_gradients_stay_the_same() -> None:
    plain, thrifty = layers(), layers()
    recompute(thrifty)
    hidden = torch.randn(5, 8, generator=torch.Generator().manual_seed(1), requires_grad=True)
    losses = [run(stack, hidden) for stack in (plain, thrifty)]
    assert torch.equal(losses[0], losses[1])
    for loss in losses:
        loss.backward()
    for one, other in zip(plain, thrifty, strict=True):
        for (name, parameter), (_, recomputed) in zip(one.named_parameters(), other.named_parameters(), strict=True):
            assert parameter.grad is not None and parameter.grad.any(), name
            torch.testing.assert_close(recomputed.grad, parameter.grad, msg=name)


def test_activations_are_computed_twice_instead_of_kept() -> None:
    plain, thrifty = layers(), layers()
    recompute(thrifty)
    hidden = torch.randn(50, 8, requires_grad=True)
    assert count_saved(lambda: run(thrifty, hidden)) < count_saved(lambda: run(plain, hidden)) / 3
    before = [layer.num_forwards for layer in thrifty]
    run(thrifty, hidden).backward()
    assert [layer.num_forwards - count for layer, count in zip(thrifty, before, strict=True)] == [2, 2, 2]


def test_in_evaluation_a_layer_runs_once_as_it_is() -> None:
    plain, thrifty = layers(), layers()
    recompute(thrifty)
    for layer in thrifty:
        layer.eval()
    hidden = torch.randn(5, 8, requires_grad=True)
    loss = run(thrifty, hidden)
    assert torch.equal(run(plain, hidden), loss)
    loss.backward()
    assert [layer.num_forwards for layer in thrifty] == [1, 1, 1]


def test_names_and_weights_are_as_before() -> None:
    plain, thrifty = layers(), layers()
    recompute(thrifty)
    assert nn.ModuleList(thrifty).state_dict().keys() == nn.ModuleList(plain).state_dict().keys()
