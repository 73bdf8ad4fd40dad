"""Sizes of VisCPM-Paint, and what it takes from Stable Diffusion 2.1-base."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.networks.cpm_bee.config import CPMBeeConfig

# The UNet's configuration (SPEC §1.3). `attention_head_dim` counts heads, as in diffusers of that time.
SD21_BASE_UNET: Mapping[str, Any] = {
    "act_fn": "silu",
    "attention_head_dim": [5, 10, 20, 20],
    "block_out_channels": [320, 640, 1280, 1280],
    "center_input_sample": False,
    "cross_attention_dim": 1024,
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "downsample_padding": 1,
    "dual_cross_attention": False,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 4,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-5,
    "norm_num_groups": 32,
    "only_cross_attention": False,
    "out_channels": 4,
    "sample_size": 64,
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    "upcast_attention": False,
    "use_linear_projection": True,
}

# The noise schedule (SPEC §1.3); which sampler runs it is decided in models/engines/paint/samplers.py.
SD21_BASE_SCHEDULER: Mapping[str, Any] = {
    "_class_name": "PNDMScheduler",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}


@dataclass(frozen=True)
class PaintConfig:
    """The language model and a diffusers UNet2DConditionModel configuration."""

    llm: CPMBeeConfig
    unet: Mapping[str, Any]

    @property
    def cross_attention_dim(self) -> int:
        """Width of the text states that the UNet attends to: the prompt adapter's output."""
        return int(self.unet["cross_attention_dim"])
