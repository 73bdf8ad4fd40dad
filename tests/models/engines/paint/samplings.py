"""A tiny UNet and samplings that tests of the batch share."""

from typing import Any

import torch
from diffusers import UNet2DConditionModel

from models.engines.paint.samplers import make_scheduler, step_table
from models.engines.paint.sampling import Sampling, candidate_generators
from models.networks.paint.config import SD21_BASE_SCHEDULER

WIDTH = 8
SCHEDULER = make_scheduler(SD21_BASE_SCHEDULER, 0)
REQUEST: dict[str, Any] = {
    "seed": 1,
    "sampler": "ddpm",
    "steps": 4,
    "candidates": 2,
    "guidance": 7.5,
    "size": (8, 8),
    "length": 4,
}


def make_unet() -> UNet2DConditionModel:
    torch.manual_seed(3)
    unet = UNet2DConditionModel(
        block_out_channels=(8, 16),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=2,
        cross_attention_dim=WIDTH,
        use_linear_projection=True,
    )
    return unet.eval().requires_grad_(False)


def begin(request: dict[str, Any]) -> Sampling:
    texts = torch.randn(2, request["length"], WIDTH, generator=torch.Generator().manual_seed(request["seed"] + 7))
    return Sampling(
        step_table(SCHEDULER, request["steps"], request["sampler"]),
        texts,
        num_candidates=request["candidates"],
        latent_shape=(4, *request["size"]),
        guidance_scale=request["guidance"],
        generators=candidate_generators(request["seed"], request["candidates"]),
    )
