"""One request's way from noise to latents. Networks and other requests are unknown here."""

import itertools

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from models.engines.paint.samplers import SamplerStep, StepTable

# One generator for all candidates (the reference's way) or one for each candidate.
Generators = torch.Generator | list[torch.Generator]

_numbers = itertools.count()


def candidate_generators(seed: int, num_candidates: int) -> list[torch.Generator]:
    """CPU generators, so that noise is the same on every device; candidate i's starts from `seed + i`."""
    return [torch.Generator().manual_seed(seed + i) for i in range(num_candidates)]


class Sampling:
    """The latents of n candidates and what is left to do to them.

    Latents stay float32 whatever the UNet's dtype is; guidance and the sampler's arithmetic are float32 too.

    Args:
        conditioning: (2P, L, cross attention width); rows of negative prompts, then those of the P prompts, 1 in a job.
        num_candidates: of each prompt; n of all prompts, in their order.
        latent_shape: channels, height and width of the latents.
        generators: of the initial latents first, then of one noise tensor a step that needs one.
        latents: (n, C, height, width), to start from instead of drawn ones.
    """

    def __init__(
        self,
        table: StepTable,
        conditioning: Tensor,
        *,
        num_candidates: int,
        latent_shape: tuple[int, int, int],
        guidance_scale: float,
        generators: Generators,
        latents: Tensor | None = None,
    ) -> None:
        self.number = next(_numbers)  # no two samplings of a process share it
        self.table = table
        self.guidance_scale = guidance_scale
        self.generators = generators
        # (P, L, W) -> (n, L, W) each; the candidates of one request share one text.
        negative, conditional = conditioning.chunk(2)
        self.negative_texts = negative.repeat_interleave(num_candidates, dim=0)
        self.texts = conditional.repeat_interleave(num_candidates, dim=0)
        self.num_steps_done = 0

        shape = (len(self.texts), *latent_shape)
        if latents is None:
            latents = randn_tensor(shape, generator=generators, device=conditioning.device, dtype=torch.float32)
        self.latents = latents * table.initial_scale  # (n, C, h, w)
        self.predicted_latents = self.latents  # what the last step takes the finished latents to be
        self.prediction = torch.zeros_like(self.latents)  # guided, of the last step
        self._drawn: Tensor | None = None
        self.deep: tuple[Tensor, Tensor] | None = None  # features kept for shallow steps: of negative rows and others

    @property
    def num_candidates(self) -> int:
        return len(self.texts)

    @property
    def num_steps(self) -> int:
        return len(self.table)

    @property
    def is_done(self) -> bool:
        return self.num_steps_done == self.num_steps

    @property
    def next_step(self) -> SamplerStep:
        return self.table.steps[self.num_steps_done]

    def tensors(self) -> list[Tensor]:
        """All that it has on its device, some of them twice."""
        own = (self.latents, self.predicted_latents, self.prediction, self.negative_texts, self.texts)
        return [*own, *(self.deep or ())]

    def draw(self) -> Tensor:
        """The next step's noise, like the latents but where its generators are: who has many moves them at once.

        Zeros, and nothing drawn, where the step takes none. A step that is tried again has the same noise.
        """
        if self._drawn is None:
            first = self.generators[0] if isinstance(self.generators, list) else self.generators
            if self.next_step.draws:
                shape = self.latents.shape
                self._drawn = randn_tensor(shape, generator=self.generators, device=first.device, dtype=torch.float32)
            else:
                self._drawn = torch.zeros(self.latents.shape, device=first.device)
        return self._drawn

    def advance(self, latents: Tensor, predicted_latents: Tensor, prediction: Tensor) -> None:
        """Take over what a step made, all like the latents."""
        self.latents, self.predicted_latents, self.prediction = latents, predicted_latents, prediction
        self._drawn = None
        self.num_steps_done += 1
