"""Pictures from latents: scaled, clamped, in bytes; in halves and tiles where memory is short."""

from typing import Any

import pytest
import torch
from torch import Tensor

from models.engines.paint.decoding import PictureDecoder, check_picture, decode_latents, to_bytes
from models.engines.paint.engine import PaintEngine
from models.jobs import JobRejected


class IdentityVAE:
    """Decodes to its first three channels."""

    dtype = torch.float32
    config = type("Config", (), {"scaling_factor": 0.5})

    def decode(self, latents: Tensor, return_dict: bool) -> tuple[Tensor]:
        return (latents[:, :3],)


def test_decoding_scales_clamps_and_puts_channels_last() -> None:
    latents = torch.zeros(1, 4, 1, 2)
    latents[0, :3, 0, 0] = torch.tensor([0.25, -5.0, 5.0])
    pictures = decode_latents(IdentityVAE(), latents)
    assert pictures.shape == (1, 1, 2, 3)
    assert pictures[0, 0].tolist() == [[0.75, 0.0, 1.0], [0.5, 0.5, 0.5]]


def test_halves_round_to_even() -> None:
    values = torch.tensor([0.5, 1.5, 2.5, 254.5]) / 255
    assert (values * 255).tolist() == [0.5, 1.5, 2.5, 254.5], "the halves must survive the division"
    assert to_bytes(values).tolist() == [0, 2, 2, 254]


def test_a_picture_of_one_colour_is_refused() -> None:
    black = torch.zeros(4, 4, 3, dtype=torch.uint8)
    with pytest.raises(JobRejected, match=r"seed 12 is a single colour, RGB \(0, 0, 0\)") as caught:
        check_picture(black, seed=12)
    assert caught.value.code == "generation_failed"
    with pytest.raises(JobRejected):
        check_picture(black + torch.tensor([7, 0, 200], dtype=torch.uint8), seed=12)
    black[2, 1, 0] = 1
    check_picture(black, seed=12)


class ShortOfMemory:
    """A decoder that refuses more than `most` latents' places in one call."""

    def __init__(self, engine: PaintEngine, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
        self.forward = engine.painter.vae.decoder.forward
        self.most = most
        self.calls: list[tuple[int, ...]] = []
        monkeypatch.setattr(engine.painter.vae.decoder, "forward", self)

    def __call__(self, latents: Tensor, *args: Any, **kwargs: Any) -> Any:
        places = len(latents) * latents.shape[-1] * latents.shape[-2]
        if places > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        self.calls.append(tuple(latents.shape))
        return self.forward(latents, *args, **kwargs)


def latents_of(engine: PaintEngine, num_pictures: int, side: int) -> Tensor:
    channels = engine.painter.vae.config.latent_channels
    return torch.randn(num_pictures, channels, side, side, generator=torch.Generator().manual_seed(2))


@pytest.mark.slow
def test_pictures_that_do_not_fit_together_are_decoded_in_halves(
    engine: PaintEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    latents = latents_of(engine, 4, 8)
    expected = engine.painter.decoder.decode(latents).int()
    short = ShortOfMemory(engine, monkeypatch, most=128)
    got = engine.painter.decoder.decode(latents).int()
    assert [shape[0] for shape in short.calls] == [2, 2]
    assert (got - expected).abs().max() <= 1


@pytest.mark.slow
def test_a_picture_that_does_not_fit_is_decoded_in_tiles(engine: PaintEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    latents = latents_of(engine, 1, 24)
    expected = engine.painter.decoder.decode(latents).float()
    short = ShortOfMemory(engine, monkeypatch, most=12 * 12)
    got = engine.painter.decoder.decode(latents).float()
    assert got.shape == expected.shape and len(short.calls) > 3
    assert (got - expected).abs().mean() < 0.2 * (expected - expected.mean()).abs().mean()
    assert not engine.painter.vae.use_tiling, "the next picture is decoded whole again"


def test_a_picture_of_which_no_tile_fits_is_given_up(engine: PaintEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    ShortOfMemory(engine, monkeypatch, most=0)
    with pytest.raises(torch.OutOfMemoryError):
        engine.painter.decoder.decode(latents_of(engine, 2, 8))


def test_other_errors_are_not_taken_for_lack_of_memory() -> None:
    class Broken(IdentityVAE):
        calls = 0

        def decode(self, latents: Tensor, return_dict: bool) -> tuple[Tensor]:
            self.calls += 1
            raise RuntimeError("shapes do not fit")

    vae = Broken()
    with pytest.raises(RuntimeError, match="shapes"):
        PictureDecoder(vae).decode(torch.zeros(4, 4, 1, 1))
    assert vae.calls == 1
