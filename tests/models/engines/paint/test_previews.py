"""Previews by a linear function of the latents: good where the VAE is trained, the VAE's where it is not."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models.checkpoints.bundled import bundled_checkpoint
from models.checkpoints.loading import load_paint
from models.engines.paint.engine import PaintEngine
from models.engines.paint.previews import LEAST_EXPLAINED, LatentColours, fit_latent_colours
from models.jobs import Progress
from tests.models.engines.paint.jobs import paint, pixels


class LinearVAE:
    """A VAE whose latents are the mean colours of their squares, mixed into four channels."""

    dtype = torch.float32
    config = type("Config", (), {"scaling_factor": 0.5})
    mix = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.5, 1.0], [1.0, 1.0, 1.0]])

    def encode(self, pictures: Tensor) -> Any:
        latents = torch.einsum("dc,nchw->ndhw", self.mix, functional.avg_pool2d(pictures, 8))
        distribution = type("Distribution", (), {"mode": lambda self: latents})()
        return type("Encoded", (), {"latent_dist": distribution})()


def test_colours_that_are_linear_are_found() -> None:
    vae: Any = LinearVAE()
    colours = fit_latent_colours(vae, 8, torch.device("cpu"))
    assert colours.is_good and colours.explained == pytest.approx(1, abs=1e-3)
    pictures = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(5)).repeat_interleave(8, 2)
    pictures = pictures.repeat_interleave(8, 3)
    latents = vae.encode(pictures * 2 - 1).latent_dist.mode() * 0.5
    painted = colours.paint(latents)
    assert painted.shape == (2, 32, 32, 3)
    centres = slice(4, None, 8)  # between them colours are blended
    wrong = painted[:, centres, centres] - pictures.permute(0, 2, 3, 1)[:, centres, centres]
    assert wrong.abs().max() < 0.25 and wrong.abs().mean() < 0.1


@pytest.mark.slow
def test_the_bundled_vae_paints_its_previews_itself() -> None:
    """Sixteen channels at an eighth of the side hold more than colours: a line explains too little of them."""
    vae = load_paint(bundled_checkpoint("paint")).vae
    colours, again = (fit_latent_colours(vae, 8, torch.device("cpu")) for _ in range(2))
    assert torch.equal(colours.weights, again.weights)
    assert 0.5 < colours.explained < LEAST_EXPLAINED


@pytest.mark.slow
def test_an_untrained_vae_is_not_explained(engine: PaintEngine) -> None:
    colours = fit_latent_colours(engine.painter.vae, engine.painter.latent_px, torch.device("cpu"))
    assert not colours.is_good and engine.painter.colours is None


@pytest.mark.slow
def test_an_engine_with_good_colours_needs_no_vae_for_previews(
    engine: PaintEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    colours = LatentColours(torch.rand(4, 3), torch.zeros(3), 1.0, engine.painter.latent_px)
    monkeypatch.setattr(engine, "painter", replace(engine.painter, colours=colours))
    decoded: list[int] = []
    decode = engine.painter.vae.decode
    monkeypatch.setattr(engine.painter.vae, "decode", lambda *a, **k: (decoded.append(1), decode(*a, **k))[1])
    shown = [event for event in paint(engine, previews=1) if isinstance(event, Progress) and event.preview_png]
    assert len(shown) == 1 and pixels(shown[0].preview_png).shape == (64, 64, 3)
    assert len(decoded) == 1, "the finished picture's"


@pytest.mark.parametrize(("explained", "is_good"), [(0.9, True), (0.5, False), (float("-inf"), False)])
def test_how_good_is_good(explained: float, is_good: bool) -> None:
    assert LatentColours(torch.zeros(4, 3), torch.zeros(3), explained, 8).is_good is is_good


def test_colours_are_clamped_and_enlarged() -> None:
    colours = LatentColours(torch.full((4, 3), 9.0), torch.zeros(3), 1.0, 8)
    painted = colours.paint(torch.ones(1, 4, 2, 3))
    assert painted.shape == (1, 16, 24, 3) and (painted == 1).all()
