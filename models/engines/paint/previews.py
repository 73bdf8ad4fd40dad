"""Previews without the VAE: the colours of a latent are nearly a linear function of it.

The function is fitted once a checkpoint, on what the VAE's encoder makes of random soft pictures; where it explains too
little of their colours, as with a VAE that was never trained, previews come from the VAE.
"""

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional

FIT_PICTURES = 24  # one half fits the function, the other judges it
FIT_SIDE_LATENTS = 8
LEAST_EXPLAINED = 0.8  # share of the colours' variance


@dataclass(frozen=True)
class LatentColours:
    """`colours = latents · weights + offset`, in 0..1, and how well that holds."""

    weights: Tensor  # (C, 3) float32
    offset: Tensor  # (3,)
    explained: float  # share of the variance in pictures that were not fitted
    latent_px: int

    @property
    def is_good(self) -> bool:
        return self.explained >= LEAST_EXPLAINED

    @torch.inference_mode()
    def paint(self, latents: Tensor) -> Tensor:
        """(n, C, h, w) -> (n, H, W, 3), float32 in 0..1, enlarged to the picture's size."""
        colours = torch.einsum("nchw,cd->ndhw", latents.float(), self.weights) + self.offset[:, None, None]
        enlarged = functional.interpolate(colours, scale_factor=self.latent_px, mode="bilinear", align_corners=False)
        return enlarged.clamp(0, 1).permute(0, 2, 3, 1)


@torch.inference_mode()
def fit_latent_colours(vae: AutoencoderKL, latent_px: int, device: torch.device) -> LatentColours:
    """Least squares over the latents of random pictures; the same for the same VAE."""
    pictures = soft_pictures(FIT_PICTURES, FIT_SIDE_LATENTS * latent_px).to(device)
    mode = vae.encode((pictures * 2 - 1).to(vae.dtype)).latent_dist.mode().float() * vae.config.scaling_factor
    latents = mode.permute(0, 2, 3, 1).flatten(1, 2).double().cpu()  # (n, h w, C)
    colours = functional.avg_pool2d(pictures, latent_px).permute(0, 2, 3, 1).flatten(1, 2).double().cpu()
    half = FIT_PICTURES // 2
    known = _with_ones(latents[:half].flatten(0, 1))
    solution = torch.linalg.lstsq(known, colours[:half].flatten(0, 1), driver="gelsd").solution  # (C + 1, 3)
    wanted = colours[half:].flatten(0, 1)
    wrong = (_with_ones(latents[half:].flatten(0, 1)) @ solution - wanted).square().sum()
    explained = 1 - wrong / (wanted - wanted.mean(0)).square().sum()
    weights = solution.float().to(device)
    return LatentColours(weights[:-1], weights[-1], float(torch.nan_to_num(explained)), latent_px)


def soft_pictures(num_pictures: int, side_px: int) -> Tensor:
    """(n, 3, side, side) in 0..1: patches of random colours on grounds of random colours."""
    generator = torch.Generator().manual_seed(0)
    ground = torch.rand(num_pictures, 3, 1, 1, generator=generator)
    patches = torch.rand(num_pictures, 3, 5, 5, generator=generator)
    shown = (torch.rand(num_pictures, 1, 5, 5, generator=generator) < 0.7).float()
    mixed = patches * shown + ground * (1 - shown)
    return functional.interpolate(mixed, size=(side_px, side_px), mode="bilinear", align_corners=False).clamp(0, 1)


def _with_ones(rows: Tensor) -> Tensor:
    return torch.cat([rows, torch.ones(len(rows), 1, dtype=rows.dtype)], dim=1)
