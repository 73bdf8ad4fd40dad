"""Latents from noise, and pictures from latents (SPEC §8.2 to §8.4). Texts and jobs are unknown here."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from models.engines.oom import is_out_of_memory, release_memory
from models.jobs import JobRejected

# One generator for all candidates (the reference's way) or one for each candidate.
Generators = torch.Generator | list[torch.Generator]


def make_scheduler(config: Mapping[str, Any], steps_offset: int) -> DDPMScheduler:
    """The ancestral sampler on the betas of `config`, which may be another scheduler's.

    Args:
        steps_offset: 0 for the timesteps of the pinned diffusers (980..0 of 50 steps), 1 for those of newer ones
            (981..1); the configuration's own entry does not count.
    """
    return DDPMScheduler.from_config(dict(config), timestep_spacing="leading", steps_offset=steps_offset)


def candidate_generators(seed: int, num_candidates: int) -> list[torch.Generator]:
    """CPU generators, so that noise is the same on every device; candidate i's starts from `seed + i`."""
    return [torch.Generator().manual_seed(seed + i) for i in range(num_candidates)]


class Denoiser:
    """One sampling run of n candidates, advanced a step at a time.

    Latents stay float32 whatever the UNet's dtype is; guidance and the sampler's arithmetic are float32 too.

    Args:
        conditioning: (2P, L, cross attention width); rows of negative prompts, then those of the P prompts, 1 in a job.
        num_candidates: of each prompt; n of all prompts, in their order.
        latent_size: height and width of the latents.
        generators: of the initial latents first, then of one noise tensor a step.
        latents: (n, C, height, width), to start from instead of drawn ones.

    Raises:
        ValueError: more steps than the sampler has timesteps.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        scheduler: DDPMScheduler,
        conditioning: Tensor,
        *,
        num_candidates: int,
        latent_size: tuple[int, int],
        num_inference_steps: int,
        guidance_scale: float,
        generators: Generators,
        latents: Tensor | None = None,
    ) -> None:
        check_num_steps(scheduler, num_inference_steps)
        self.unet = unet
        self.scheduler = scheduler
        self.guidance_scale = guidance_scale
        self.generators = generators
        # (2P, L, W) -> (2n, L, W): all negative rows, then all conditional ones.
        self.conditioning = conditioning.to(unet.dtype).repeat_interleave(num_candidates, dim=0)
        self.rows_per_call = len(self.conditioning)

        scheduler.set_timesteps(num_inference_steps)
        self.timesteps: list[int] = scheduler.timesteps.tolist()
        self._timesteps_on_device = scheduler.timesteps.to(conditioning.device)
        self.num_steps_done = 0

        if latents is None:
            shape = (self.rows_per_call // 2, unet.config.in_channels, *latent_size)
            latents = randn_tensor(shape, generator=generators, device=conditioning.device, dtype=torch.float32)
        self.latents = latents * scheduler.init_noise_sigma  # (n, C, h, w)
        self.predicted_latents = self.latents  # what the last step takes the finished latents to be
        self.noise_prediction = torch.zeros_like(self.latents)  # guided, of the last step

    @property
    def is_done(self) -> bool:
        return self.num_steps_done == len(self.timesteps)

    @torch.inference_mode()
    def step(self) -> None:
        """Take one denoising step.

        Raises:
            JobRejected: `generation_failed` when latents are no longer finite.
            torch.OutOfMemoryError: when even a single row does not fit.
        """
        index = self.num_steps_done
        self.noise_prediction = self._guided_noise(self._timesteps_on_device[index])
        self.latents, self.predicted_latents = self.scheduler.step(
            self.noise_prediction, self.timesteps[index], self.latents, generator=self.generators, return_dict=False
        )
        self.num_steps_done += 1
        self._check_finite()

    def _guided_noise(self, timestep: Tensor) -> Tensor:
        latents = torch.cat([self.latents, self.latents]).to(self.unet.dtype)  # (2n, C, h, w)
        negative, conditional = self._predict_noise(latents, timestep).float().chunk(2)
        return negative + self.guidance_scale * (conditional - negative)

    def _predict_noise(self, latents: Tensor, timestep: Tensor) -> Tensor:
        """The UNet on all rows; out of memory, it goes on in halves, and stays with what fitted. No noise is drawn."""
        while True:
            try:
                rows_per_call = self.rows_per_call
                parts = zip(
                    torch.split(latents, rows_per_call), torch.split(self.conditioning, rows_per_call), strict=True
                )
                return torch.cat([self.unet(rows, timestep, texts, return_dict=False)[0] for rows, texts in parts])
            except RuntimeError as error:
                if self.rows_per_call == 1 or not is_out_of_memory(error):
                    raise
            # Past the handler, whose traceback would keep the failed call's tensors alive.
            self.rows_per_call = (self.rows_per_call + 1) // 2
            release_memory(latents.device)

    def _check_finite(self) -> None:
        finite = torch.isfinite(self.latents).flatten(1).all(dim=1)  # (n,)
        if not finite.all():
            bad = (~finite).nonzero().flatten().tolist()
            raise JobRejected(
                "generation_failed",
                f"latents of candidates {bad} are not finite after step {self.num_steps_done} of "
                f"{len(self.timesteps)} in {str(self.unet.dtype).removeprefix('torch.')}",
            )


def check_num_steps(scheduler: DDPMScheduler, num_inference_steps: int) -> None:
    """Raises ValueError where the first timestep would lie outside the sampler's table."""
    num_timesteps = scheduler.config.num_train_timesteps
    most = num_timesteps - scheduler.config.steps_offset
    if not 1 <= num_inference_steps <= most:
        raise ValueError(f"num_inference_steps is {num_inference_steps}, allowed are 1 to {most}")


@torch.inference_mode()
def decode_latents(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """(n, C, h, w) -> (n, H, W, 3), float32 in 0..1 (SPEC §8.3)."""
    scaled = (latents / vae.config.scaling_factor).to(vae.dtype)
    decoded: Tensor = vae.decode(scaled, return_dict=False)[0]  # (n, 3, H, W)
    return (decoded.float() / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)


def to_bytes(pictures: Tensor) -> Tensor:
    """0..1 -> uint8, halves rounded to even as the reference does."""
    return (pictures * 255).round().to(torch.uint8)


def check_picture(picture: Tensor, seed: int) -> None:
    """Raises JobRejected (`generation_failed`) for a uint8 picture of one colour, such as a black one."""
    colours: Sequence[int] = picture.flatten(0, -2).amin(dim=0).tolist()
    if colours == picture.flatten(0, -2).amax(dim=0).tolist():
        raise JobRejected("generation_failed", f"the picture of seed {seed} is a single colour, RGB {tuple(colours)}")
