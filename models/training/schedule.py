"""The learning rate's course: a warm-up, a level stretch, and a straight way down to 0 at the end if wanted."""

import math
from dataclasses import dataclass
from typing import Literal

WarmupShape = Literal["log", "linear"]


@dataclass(frozen=True)
class Schedule:
    """The share of its full learning rate that each parameter group has at a step.

    The defaults are the release's (SPEC §9): from a tenth, over 200 steps, along a logarithm as DeepSpeed's WarmupLR
    goes, and level from there. A run without a decay can be resumed with more steps.
    """

    num_steps: int
    warmup_steps: int = 200
    warmup_start: float = 0.1
    warmup_shape: WarmupShape = "log"
    decay_steps: int = 0  # the last ones

    def share(self, step: int) -> float:
        """Of the update number `step`, counted from 0."""
        return self._warmup(step) * self._decay(step)

    def _warmup(self, step: int) -> float:
        if step >= self.warmup_steps:
            return 1.0
        # log(1) / log(1) where there is but one step
        done = (
            math.log(step + 1) / math.log(max(self.warmup_steps, 2))
            if self.warmup_shape == "log"
            else ((step + 1) / self.warmup_steps)
        )
        return self.warmup_start + (1 - self.warmup_start) * done

    def _decay(self, step: int) -> float:
        remaining = self.num_steps - step
        return min(1.0, remaining / (self.decay_steps + 1)) if self.decay_steps else 1.0
