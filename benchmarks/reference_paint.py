"""The reference's painting written down plainly (SPEC §8, §12): what `paint.py` compares the engine with.

Float32 networks as loaded, one request after another; the language model runs for every request, and the candidates of
a request share the calls of the UNet.
"""

import torch
from PIL import Image
from torch import Tensor

from models.checkpoints.loading import LoadedPaint
from models.jobs import PaintJob
from models.networks.cpm_bee.packing import pack_paint
from models.networks.cpm_bee.tokenizer import escape


class ReferencePainter:
    def __init__(self, loaded: LoadedPaint, device: str) -> None:
        self.loaded = loaded
        self.device = device
        config = loaded.scheduler_config
        betas = torch.linspace(config["beta_start"] ** 0.5, config["beta_end"] ** 0.5, config["num_train_timesteps"])
        self.cumulative = torch.cumprod(1 - betas**2, 0)
        self.predicts_velocity = config["prediction_type"] == "v_prediction"

    @torch.no_grad()
    def paint(self, job: PaintJob) -> list[Image.Image]:
        model, vae, count = self.loaded.model, self.loaded.vae, job.candidates
        trees = [{"caption": escape(text), "objects": ""} for text in (job.negative_prompt, job.prompt)]
        texts = model.encode_prompts(pack_paint(trees, self.loaded.tokenizer).to(self.device))
        texts = texts.repeat_interleave(count, dim=0)
        latent_px = 1 << (len(vae.config.block_out_channels) - 1)
        generator = torch.Generator().manual_seed(job.seed)
        shape = (count, model.unet.config.in_channels, job.height_px // latent_px, job.width_px // latent_px)
        latents = torch.randn(shape, generator=generator).to(self.device)
        stride = len(self.cumulative) // job.num_inference_steps
        for timestep in range((job.num_inference_steps - 1) * stride, -1, -stride):
            prediction = model.unet(torch.cat([latents] * 2), timestep, encoder_hidden_states=texts).sample
            negative, conditional = prediction.chunk(2)
            guided = negative + job.guidance_scale * (conditional - negative)
            noise = torch.randn(shape, generator=generator).to(self.device) if timestep else torch.zeros_like(latents)
            latents = self._step(latents, guided, noise, timestep, stride)
        decoded = (vae.decode(latents / vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)
        pictures = (decoded.permute(0, 2, 3, 1).cpu() * 255).round().to(torch.uint8).numpy()
        return [Image.fromarray(picture) for picture in pictures]

    def _step(self, latents: Tensor, prediction: Tensor, noise: Tensor, timestep: int, stride: int) -> Tensor:
        """SPEC §8.4."""
        a_t = self.cumulative[timestep]
        a_p = self.cumulative[timestep - stride] if timestep >= stride else torch.tensor(1.0)
        a = a_t / a_p
        if self.predicts_velocity:
            x0 = a_t.sqrt() * latents - (1 - a_t).sqrt() * prediction
        else:
            x0 = (latents - (1 - a_t).sqrt() * prediction) / a_t.sqrt()
        mean = a_p.sqrt() * (1 - a) / (1 - a_t) * x0 + a.sqrt() * (1 - a_p) / (1 - a_t) * latents
        return mean + ((1 - a_p) / (1 - a_t) * (1 - a)).clamp(min=1e-20).sqrt() * noise
