"""What is random in a step of painting: drawn from the run's seed and an example's place in the run, and nothing else.

So a resumed run, or one of several processes, draws what one undisturbed process would have drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.training.task import Position


@dataclass(frozen=True)
class DiffusionDraws:
    """The random numbers of B examples, each from a generator of its own."""

    without_caption: tuple[bool, ...]  # (B,)
    timesteps: Tensor  # (B,) int64, uniform over the schedule's (SPEC §8.5)
    latent_noise: Tensor  # (B, C, h, w) float32, for the VAE's sample
    noise: Tensor  # (B, C, h, w) float32, what the UNet has to predict


def draw_normal(positions: Sequence[Position], seed: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normal numbers (B, *shape), float32."""
    rows = [generator_at(position, seed).standard_normal(shape, dtype=np.float32) for position in positions]
    return torch.from_numpy(np.stack(rows))


def draw_diffusion(
    positions: Sequence[Position], seed: int, latent_shape: tuple[int, int, int], num_timesteps: int, drop_share: float
) -> DiffusionDraws:
    """Draws of a step of painting; `drop_share` of the captions are left out for classifier-free guidance."""
    dropped, timesteps, normal = [], [], []
    for position in positions:
        generator = generator_at(position, seed)
        dropped.append(bool(generator.random() < drop_share))
        timesteps.append(int(generator.integers(num_timesteps)))
        normal.append(generator.standard_normal((2, *latent_shape), dtype=np.float32))
    latent_noise, noise = torch.from_numpy(np.stack(normal, axis=1)).unbind()  # (B, C, h, w) each
    return DiffusionDraws(tuple(dropped), torch.tensor(timesteps), latent_noise, noise)


def generator_at(position: Position, seed: int) -> np.random.Generator:
    """The generator of one example of one step."""
    return np.random.default_rng((seed, position.step, position.place))
