"""Gradient checkpointing: a layer's activations are computed again in the backward instead of being kept."""

from collections.abc import Iterable
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint


def recompute(layers: Iterable[nn.Module]) -> None:
    """Have these layers keep their inputs alone while they are trained; losses and gradients stay the same."""
    for layer in layers:
        layer.forward = partial(_forward, layer, layer.forward)


def _forward(layer: nn.Module, forward: Any, *arguments: Any) -> Any:
    if not layer.training:
        return forward(*arguments)
    return checkpoint(forward, *arguments, use_reentrant=False)
