"""How a Paint model and a VAE are trained; apart from their tasks, which bring diffusers: seconds to import."""

from dataclasses import dataclass
from typing import Literal

import torch

Trained = Literal["adapter", "bridge", "all"]


@dataclass(frozen=True)
class PaintSettings:
    """What of a Paint model is trained, and how.

    `train`: `adapter`, the prompt adapter alone; `bridge`, with it the UNet's cross attention; `all`, everything. The
    release trained the first and then the second (its README), and the language model never.
    """

    train: Trained = "bridge"
    lr: float = 1e-5  # of adapter and UNet
    llm_lr: float = 1e-5
    embedding_lr: float = 1e-5  # of its table of tokens
    empty_share: float = 0.1  # of captions
    min_snr: float = 0.0  # gamma of min-SNR weighting; 0: the plain mean squared error
    ema_decay: float = 0.999  # 0: no average
    cache_latents: bool = False  # for sources whose pictures come again unchanged
    num_validation: int = 64
    num_samples: int = 8
    guidance_scale: float = 7.5  # of the samples that validation paints
    sample_steps: int = 50
    llm_export_dtype: torch.dtype = torch.float16
    export_dtype: torch.dtype = torch.float32  # of adapter and UNet


@dataclass(frozen=True)
class VAESettings:
    """How a VAE is trained.

    The loss of a picture is its mean absolute error over the channels' values in -1..1, plus `edge_weight` times that
    of the differences of neighbouring pixels, plus `kl_weight` times the latents' KL divergence in nats.
    """

    lr: float = 1e-3
    edge_weight: float = 0.5
    kl_weight: float = 1e-6
    num_validation: int = 64
    export_dtype: torch.dtype = torch.float16
