"""One sampling run by itself: a request without neighbours, as parity, evaluation and training take it."""

from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import Tensor

from models.engines.paint.batch import DenoisingBatch
from models.engines.paint.samplers import step_table
from models.engines.paint.sampling import Generators, Sampling


class Denoiser:
    """One run of the ancestral sampler over n candidates, advanced a step at a time (SPEC §8.2, §8.4).

    Args: those of `Sampling`, with the height and width of the latents.

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
        self.batch = DenoisingBatch(unet)
        self.sampling = Sampling(
            step_table(scheduler, num_inference_steps),
            conditioning,
            num_candidates=num_candidates,
            latent_shape=(unet.config.in_channels, *latent_size),
            guidance_scale=guidance_scale,
            generators=generators,
            latents=latents,
        )
        self.generators = generators

    @property
    def timesteps(self) -> list[int]:
        return [int(step.timestep) for step in self.sampling.table.steps]

    @property
    def is_done(self) -> bool:
        return self.sampling.is_done

    @property
    def latents(self) -> Tensor:
        return self.sampling.latents

    @property
    def predicted_latents(self) -> Tensor:
        """What the last step takes the finished latents to be."""
        return self.sampling.predicted_latents

    @property
    def noise_prediction(self) -> Tensor:
        """Guided, of the last step."""
        return self.sampling.prediction

    def step(self) -> None:
        """Take one denoising step.

        Raises:
            JobRejected: `generation_failed` when latents are no longer finite.
            torch.OutOfMemoryError: when even a single row does not fit.
        """
        failures = self.batch.step([self.sampling])
        if failures:
            raise failures[0]
