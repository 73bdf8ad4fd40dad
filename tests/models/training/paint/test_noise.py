"""What is random in a step of painting."""

import numpy as np
import pytest
import torch

from models.training.paint.noise import draw_diffusion, draw_normal
from models.training.task import Position

SHAPE = (4, 2, 2)
POSITIONS = [Position(index=7 * place, epoch=0, step=3, place=place) for place in range(6)]


def test_draws_depend_on_seed_step_and_place_alone() -> None:
    whole = draw_diffusion(POSITIONS, 5, SHAPE, 1000, 0.5)
    # Another process, another part of the batch, another example there
    part = draw_diffusion([Position(1, 9, 3, 4), Position(2, 9, 3, 5)], 5, SHAPE, 1000, 0.5)
    assert whole.without_caption[4:] == part.without_caption
    for name in ("timesteps", "latent_noise", "noise"):
        assert torch.equal(getattr(whole, name)[4:], getattr(part, name)), name

    for seed, step in ((6, 3), (5, 4)):
        other = draw_diffusion([Position(0, 0, step, place) for place in range(6)], seed, SHAPE, 1000, 0.5)
        assert not torch.isclose(other.noise, whole.noise).any()
    assert not torch.isclose(whole.noise[0], whole.noise[1]).any()
    assert not torch.isclose(whole.noise, whole.latent_noise).any()


@pytest.mark.slow
def test_timesteps_are_uniform_and_captions_left_out_as_often_as_wanted() -> None:
    positions = [Position(0, 0, step, place) for step in range(40) for place in range(50)]
    draws = draw_diffusion(positions, 0, SHAPE, 10, 0.1)
    assert np.mean(draws.without_caption) == np.clip(np.mean(draws.without_caption), 0.08, 0.12)
    counts = torch.bincount(draws.timesteps, minlength=10)
    assert len(counts) == 10
    assert counts.min() > 150 and counts.max() < 250
    assert abs(draws.noise.mean()) < 0.02 and abs(draws.noise.std() - 1) < 0.02


def test_no_caption_is_left_out_without_a_share() -> None:
    assert not any(draw_diffusion(POSITIONS, 0, SHAPE, 10, 0.0).without_caption)
    assert all(draw_diffusion(POSITIONS, 0, SHAPE, 10, 1.0).without_caption)


def test_normal_numbers_by_place() -> None:
    rows = draw_normal(POSITIONS, 1, SHAPE)
    assert rows.shape == (6, *SHAPE) and rows.dtype == torch.float32
    assert torch.equal(rows[2], draw_normal(POSITIONS[2:3], 1, SHAPE)[0])
