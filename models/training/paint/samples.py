"""Pictures painted while a model is being trained, the way the service paints them."""

from collections.abc import Sequence

import torch
from diffusers import AutoencoderKL, DDPMScheduler
from torch import Tensor

from models.engines.paint.decoding import decode_latents, to_bytes
from models.engines.paint.denoise import Denoiser
from models.engines.paint.prompt import paint_tree
from models.engines.paint.sampling import candidate_generators
from models.networks.cpm_bee.packing import pack_paint
from models.networks.cpm_bee.tokenizer import Tokenizer, escape
from models.networks.paint.model import PaintModel
from models.training.paint.vae import latent_px


@torch.no_grad()
def paint_samples(
    model: PaintModel,
    vae: AutoencoderKL,
    scheduler: DDPMScheduler,
    tokenizer: Tokenizer,
    captions: Sequence[str],
    side_px: int,
    num_inference_steps: int,
    guidance_scale: float,
) -> Tensor:
    """One picture of each caption, (n, side, side, 3) uint8 on the CPU; the caption's number is its seed."""
    device = model.prompt_adapter.linear.weight.device
    vae.to(device)
    side = side_px // latent_px(vae)
    pictures = []
    for seed, caption in enumerate(captions):
        texts = pack_paint([paint_tree(""), paint_tree(escape(caption))], tokenizer).to(device)
        denoiser = Denoiser(
            model.unet,
            scheduler,
            model.encode_prompts(texts),
            num_candidates=1,
            latent_size=(side, side),
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            generators=candidate_generators(seed, 1),
        )
        while not denoiser.is_done:
            denoiser.step()
        pictures.append(to_bytes(decode_latents(vae, denoiser.latents))[0].cpu())
    return torch.stack(pictures)
