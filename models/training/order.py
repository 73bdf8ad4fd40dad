"""Which example stands where in a run: a new permutation every epoch, cut into global batches."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.training.task import Position


@dataclass
class ExampleOrder:
    """Positions by step alone, so that a resumed run, or one of several processes, sees what one run would see."""

    num_examples: int
    global_batch_size: int
    seed: int

    def __post_init__(self) -> None:
        if self.num_examples < 1:
            raise ValueError("no examples to learn from")
        self._permutations: dict[int, NDArray[np.int64]] = {}

    def positions(self, step: int, places: range) -> list[Position]:
        """The examples of some places of a step's global batch."""
        first = step * self.global_batch_size
        return [self._position(first + place, step, place) for place in places]

    def epoch(self, step: int) -> float:
        """Epochs seen before a step."""
        return step * self.global_batch_size / self.num_examples

    def _position(self, count: int, step: int, place: int) -> Position:
        epoch, rest = divmod(count, self.num_examples)
        return Position(int(self._permutation(epoch)[rest]), epoch, step, place)

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._permutations:
            # A step may straddle two epochs, and accumulated parts go back and forth between them.
            last = {known: order for known, order in self._permutations.items() if known == epoch - 1}
            self._permutations = last
            self._permutations[epoch] = np.random.default_rng([self.seed, epoch]).permutation(self.num_examples)
        return self._permutations[epoch]
