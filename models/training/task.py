"""What a training run is made of: a task says what is learnt from what, the loop (loop.py) does the steps."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Position:
    """One example's place in a run; everything random about it derives from these and the run's seed."""

    index: int  # of the example in its source
    epoch: int
    step: int
    place: int  # in the global batch: over all processes and accumulated parts


class MovableBatch(Protocol):
    """What the loop needs of a batch."""

    def to(self, device: torch.device) -> Self: ...


class Stateful(Protocol):
    """What a run saves beside weights and optimiser."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any: ...


Batch = TypeVar("Batch", bound=MovableBatch)


class Task(ABC, Generic[Batch]):
    """A model, its examples and its loss.

    `model` holds all that is trained, in float32, with `requires_grad` set; the loop moves it and may wrap its parts,
    so a task reaches everything through `self.model` and keeps no tensor of it.
    """

    model: nn.Module

    @abstractmethod
    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for the optimiser, each with its `name`, `params` and `lr`. Their order is part of a saved state."""

    def hidden_weights(self) -> list[tuple[nn.Parameter, float]]:
        """Weights of the layers between a network's first and last, which Muon may train, and a factor of its rate.

        That is 1, or sqrt(dim_in) where the layer itself divides by it, as CPM-Bee's do.
        """
        return []

    @abstractmethod
    def num_examples(self) -> int: ...

    @abstractmethod
    def collate(self, positions: Sequence[Position]) -> Batch:
        """A batch on the CPU; may run in another process than `loss`."""

    @abstractmethod
    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """SUM of the losses, and the weight it is to be divided by (target tokens, pixels), both scalars."""

    def validate(self) -> dict[str, float]:
        """Measures on held-out examples, in eval mode and without gradients; run by every process."""
        return {}

    def counts(self) -> dict[str, float]:
        """What this process counted since it started, for the log (examples that were left out)."""
        return {}

    def after_step(self) -> None:
        """Called after every update (a moving average of the weights)."""

    def stateful(self) -> tuple[Stateful, ...]:
        """Saved and restored with a run; their order is part of a saved state."""
        return ()

    @abstractmethod
    def export(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """Write the outcome into an existing folder.

        Args:
            weights: all of `model`'s state by its names, gathered on the CPU.
        """
