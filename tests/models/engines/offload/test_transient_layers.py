"""Layers one after another."""

import pytest
from torch import nn

from models.engines.offload.transient_layers import TransientLayers


class Told(TransientLayers):
    """Remembers what was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    def __len__(self) -> int:
        return 3

    def __getitem__(self, layer: int) -> nn.Module:
        self.asked.append(layer)
        return nn.Identity()


def test_a_pass_asks_for_each_layer_when_its_turn_has_come() -> None:
    layers = Told()
    seen = [len(layers.asked) for _ in layers]
    assert (seen, layers.asked) == ([1, 2, 3], [0, 1, 2])
    layers.rest()


def test_which_layers_there_are_is_not_known_here() -> None:
    with pytest.raises(TypeError, match="abstract"):
        TransientLayers()  # type: ignore[abstract]
