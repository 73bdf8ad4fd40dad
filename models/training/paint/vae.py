"""The VAE task: pictures to latents and back, with latents close to a normal distribution."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from accelerate import PartialState
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor, nn

from models.checkpoints.random_weights import draw_weights
from models.datasets.examples import PictureSource
from models.networks.vision.preprocess import normalise
from models.training.paint.noise import draw_normal
from models.training.paint.settings import VAESettings
from models.training.task import Position, Task

_FIRST_LOG_VARIANCE = -6.0
_MEASURED_PICTURES = 512  # for the scaling factor
_MEASURED_AT_ONCE = 16
_SHOWN = 8


@dataclass(frozen=True)
class VAEBatch:
    """B pictures and the noise that samples their latents."""

    pixels: Tensor  # (B, S, S, 3) uint8
    latent_noise: Tensor  # (B, C, S / factor, S / factor)

    def to(self, device: torch.device) -> Self:
        return type(self)(self.pixels.to(device), self.latent_noise.to(device))


class VAETask(Task[VAEBatch]):
    """Trains an AutoencoderKL on the pictures of a source; captions are left aside.

    Args:
        validation: a source apart from `source`, whose first pictures are validated on.
        pictures: where validation writes originals above their reconstructions; None for nowhere.
    """

    model: AutoencoderKL

    def __init__(
        self,
        model: AutoencoderKL,
        source: PictureSource,
        validation: PictureSource,
        seed: int,
        settings: VAESettings,
        pictures: Path | None = None,
    ) -> None:
        self.model = model.requires_grad_(True)
        self.source, self.seed, self.settings = source, seed, settings
        self._config = dict(model.config)
        self._factor = latent_px(model)
        self._validation, self._pictures = validation, pictures

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"name": "vae", "params": list(self.model.parameters()), "lr": self.settings.lr}]

    def num_examples(self) -> int:
        return len(self.source)

    def collate(self, positions: Sequence[Position]) -> VAEBatch:
        pictures = [self.source.picture(position.index, position.epoch).pixels for position in positions]
        pixels = torch.from_numpy(np.stack(pictures))
        side = pixels.shape[1] // self._factor
        return VAEBatch(pixels, draw_normal(positions, self.seed, (self._config["latent_channels"], side, side)))

    def loss(self, batch: VAEBatch) -> tuple[Tensor, Tensor]:
        pictures = to_input(batch.pixels)
        posterior = self.model.encode(pictures).latent_dist
        decoded = self.model.decode(posterior.mean + posterior.std * batch.latent_noise).sample
        loss = reconstruction_loss(decoded, pictures, self.settings.edge_weight)
        loss = loss + self.settings.kl_weight * posterior.kl()
        return loss.sum(), torch.tensor(len(loss), device=loss.device)

    def validate(self) -> dict[str, float]:
        indices = range(min(self.settings.num_validation, len(self._validation)))
        pixels = torch.from_numpy(np.stack([self._validation.picture(index, 0).pixels for index in indices]))
        errors, deviations, decoded_parts = [], [], []
        for part in pixels.split(_MEASURED_AT_ONCE):
            pictures = to_input(part.to(self.model.device))
            latents = self.model.encode(pictures).latent_dist.mode()
            decoded = self.model.decode(latents).sample.clamp(-1, 1)
            errors.append(((decoded - pictures) / 2).square().mean(dim=(1, 2, 3)))
            deviations.append(latents.std())
            decoded_parts.append(decoded)
        if self._pictures is not None:
            save_grid([pixels[:_SHOWN], to_bytes(torch.cat(decoded_parts)[:_SHOWN])], self._pictures)
        psnr_db = -10 * torch.cat(errors).log10()  # (V,) of values in 0..1
        return {
            "psnr_db": float(psnr_db.mean()),
            "psnr_worst_db": float(psnr_db.min()),
            "latent_std": float(torch.stack(deviations).mean()),
        }

    def export(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """Configuration with the scaling factor, and weights, in diffusers' layout."""
        vae = AutoencoderKL.from_config(self._config)
        vae.load_state_dict({name: tensor.to(self.settings.export_dtype) for name, tensor in weights.items()})
        vae.register_to_config(scaling_factor=1 / measured_latent_std(vae, self.source))
        nn.Module.to(vae, self.settings.export_dtype)  # diffusers' own would warn of half precision
        vae.save_pretrained(folder)


def latent_px(vae: AutoencoderKL) -> int:
    """Side of the square of pixels that one latent stands for."""
    return 1 << (len(vae.config.block_out_channels) - 1)


def random_vae(config: Mapping[str, Any], seed: int) -> AutoencoderKL:
    """An AutoencoderKL of diffusers' configuration with random weights to train from.

    Its latents begin with little noise; with that of a standard normal distribution it would learn nothing for long.
    """
    vae = AutoencoderKL.from_config(dict(config))
    draw_weights(vae, seed)
    channels = int(vae.config.latent_channels)
    nn.init.zeros_(vae.quant_conv.weight.data[channels:])
    nn.init.constant_(vae.quant_conv.bias.data[channels:], _FIRST_LOG_VARIANCE)
    return vae


def to_input(pixels: Tensor) -> Tensor:
    """Bytes (B, S, S, 3) to the VAE's input (B, 3, S, S), -1..1, channels last in memory."""
    return normalise(pixels).contiguous(memory_format=torch.channels_last)


def to_bytes(decoded: Tensor) -> Tensor:
    """The VAE's output (B, 3, S, S) in -1..1 -> (B, S, S, 3) uint8 on the CPU."""
    return ((decoded.float() / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu()


def reconstruction_loss(decoded: Tensor, pictures: Tensor, edge_weight: float) -> Tensor:
    """Mean absolute error of each picture's values and, weighted, of their differences to the next (B,)."""
    error = decoded - pictures
    edges = error.diff(dim=2).abs().mean(dim=(1, 2, 3)) + error.diff(dim=3).abs().mean(dim=(1, 2, 3))
    return error.abs().mean(dim=(1, 2, 3)) + edge_weight * edges


@torch.no_grad()
def measured_latent_std(vae: AutoencoderKL, source: PictureSource) -> float:
    """Standard deviation of the sampled latents of a source's first pictures, all channels together."""
    generator = torch.Generator().manual_seed(0)
    samples = []
    for start in range(0, min(_MEASURED_PICTURES, len(source)), _MEASURED_AT_ONCE):
        indices = range(start, min(start + _MEASURED_AT_ONCE, len(source)))
        pixels = torch.from_numpy(np.stack([source.picture(index, 0).pixels for index in indices]))
        samples.append(vae.encode(to_input(pixels)).latent_dist.sample(generator=generator))
    return float(torch.cat(samples).std())


def save_grid(rows: Sequence[Tensor], file: Path) -> None:
    """Rows of pictures (n, S, S, 3) uint8 as one PNG file, which appears when it is complete; by the first process."""
    if not PartialState().is_main_process:
        return
    grid = torch.cat([torch.cat(list(row), dim=1) for row in rows])  # (rows * S, n * S, 3)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(file.name + ".partial")
    Image.fromarray(grid.numpy()).save(partial, "PNG")
    partial.replace(file)
