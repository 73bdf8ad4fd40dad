"""The samplers that a request may name, as tables of numbers: what each step makes of latents and prediction.

Every one of them is linear, so a table has all that a step needs, and one tensor operation advances requests of
different samplers, lengths and steps together. With x the latents, e what the UNet predicts and z the drawn noise:

    x0 = x0_from_latents x + x0_from_prediction e        (what the finished latents are taken to be)
    x' = keep x + towards_x0 x0 + towards_previous_x0 (x0 of the step before) + noise z

The numbers are those of diffusers' schedulers, which the tests compare step by step; x0 is not clipped (SPEC §8.4).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from diffusers import DDPMScheduler

from models.jobs import SamplerName


@dataclass(frozen=True)
class SamplerStep:
    """One row of a table."""

    timestep: float
    input_scale: float  # of the latents, for the UNet
    x0_from_latents: float
    x0_from_prediction: float
    keep: float
    towards_x0: float
    towards_previous_x0: float = 0.0
    noise: float = 0.0
    draws: bool = False  # whether a noise tensor is drawn, even where `noise` is next to nothing


@dataclass(frozen=True)
class StepTable:
    """All steps of one run, and by how much the first noise is scaled."""

    steps: tuple[SamplerStep, ...]
    initial_scale: float = 1.0

    def __len__(self) -> int:
        return len(self.steps)


def make_scheduler(config: Mapping[str, Any], steps_offset: int) -> DDPMScheduler:
    """The ancestral sampler on the betas of `config`, which may be another scheduler's.

    Args:
        steps_offset: 0 for the timesteps of the pinned diffusers (980..0 of 50 steps), 1 for those of newer ones
            (981..1); the configuration's own entry does not count.
    """
    return DDPMScheduler.from_config(dict(config), timestep_spacing="leading", steps_offset=steps_offset)


def check_num_steps(scheduler: DDPMScheduler, num_inference_steps: int) -> None:
    """Raises ValueError where the first timestep would lie outside the sampler's table."""
    num_timesteps = scheduler.config.num_train_timesteps
    most = num_timesteps - scheduler.config.steps_offset
    if not 1 <= num_inference_steps <= most:
        raise ValueError(f"num_inference_steps is {num_inference_steps}, allowed are 1 to {most}")


def step_table(scheduler: DDPMScheduler, num_inference_steps: int, sampler: SamplerName = "ddpm") -> StepTable:
    """The table of `sampler` on the betas and for the kind of prediction of `scheduler`.

    Raises:
        ValueError: more steps than the betas have timesteps, or a prediction of an unknown kind.
    """
    check_num_steps(scheduler, num_inference_steps)
    if sampler == "dpm++":
        return _dpm_table(scheduler, num_inference_steps)
    if sampler == "euler":
        return _euler_table(scheduler, num_inference_steps)
    return _leading_table(scheduler, num_inference_steps, is_ancestral=sampler == "ddpm")


def _leading_table(scheduler: DDPMScheduler, num_inference_steps: int, is_ancestral: bool) -> StepTable:
    """DDPM (SPEC §8.4), or DDIM without noise, at evenly spaced timesteps."""
    cumulative = scheduler.alphas_cumprod.double().tolist()
    stride = scheduler.config.num_train_timesteps // num_inference_steps
    steps = []
    for number in reversed(range(num_inference_steps)):
        timestep = number * stride + scheduler.config.steps_offset
        previous = timestep - stride
        a_t = cumulative[timestep]
        signal, spread = math.sqrt(a_t), math.sqrt(1 - a_t)
        if is_ancestral:
            a_p = cumulative[previous] if previous >= 0 else 1.0
            a = a_t / a_p
            keep = math.sqrt(a) * (1 - a_p) / (1 - a_t)
            towards_x0 = math.sqrt(a_p) * (1 - a) / (1 - a_t)
            noise = math.sqrt(max((1 - a_p) / (1 - a_t) * (1 - a), 1e-20)) if timestep > 0 else 0.0
        else:
            # As set_alpha_to_one = False, Stable Diffusion's setting: the last step ends at the first beta's level.
            a_p = cumulative[previous] if previous >= 0 else cumulative[0]
            keep = math.sqrt((1 - a_p) / (1 - a_t))
            towards_x0, noise = math.sqrt(a_p) - signal * keep, 0.0
        steps.append(
            SamplerStep(
                float(timestep),
                1.0,
                *_x0_weights(scheduler, signal, spread),
                keep,
                towards_x0,
                noise=noise,
                draws=is_ancestral and timestep > 0,
            )
        )
    return StepTable(tuple(steps))


def _euler_table(scheduler: DDPMScheduler, num_inference_steps: int) -> StepTable:
    """Euler's method on latents that are scaled to x0 + sigma noise."""
    timesteps = np.linspace(0, scheduler.config.num_train_timesteps - 1, num_inference_steps)[::-1].tolist()
    sigmas = _sigmas(scheduler, timesteps)
    steps = []
    for timestep, (sigma, following) in zip(timesteps, pairwise(sigmas), strict=True):
        signal = 1 / math.sqrt(sigma**2 + 1)  # as input scale it leads back to latents of unit variance
        from_latents, from_prediction = _x0_weights(scheduler, signal, sigma * signal)
        ratio = following / sigma
        steps.append(SamplerStep(timestep, signal, from_latents * signal, from_prediction, ratio, 1 - ratio))
    return StepTable(tuple(steps), initial_scale=sigmas[0])


def _dpm_table(scheduler: DDPMScheduler, num_inference_steps: int) -> StepTable:
    """DPM-Solver++ of second order in multistep form (2M, midpoint), the first and the last step of first order.

    At Karras' noise levels: at evenly spaced timesteps the bundled model's pictures were recognised less often.
    """
    timesteps, sigmas = _karras_schedule(scheduler, num_inference_steps)
    steps = []
    last_h = 0.0  # half the logarithm of the signal-to-noise ratio that the step before won
    for number, timestep in enumerate(timesteps):
        sigma, following = sigmas[number], sigmas[number + 1]
        signal, next_signal = 1 / math.sqrt(sigma**2 + 1), 1 / math.sqrt(following**2 + 1)
        h = math.log(sigma / following) if following else math.inf
        towards = next_signal * -math.expm1(-h)
        is_second_order = last_h > 0 and number < num_inference_steps - 1
        extra = towards * 0.5 * h / last_h if is_second_order else 0.0
        steps.append(
            SamplerStep(
                timestep,
                1.0,
                *_x0_weights(scheduler, signal, sigma * signal),
                keep=following * next_signal / (sigma * signal),
                towards_x0=towards + extra,
                towards_previous_x0=-extra,
            )
        )
        last_h = h
    return StepTable(tuple(steps))


def _sigmas(scheduler: DDPMScheduler, timesteps: Sequence[float]) -> list[float]:
    """Noise over signal at each timestep, in between two by a straight line; then 0, where the run ends."""
    cumulative = scheduler.alphas_cumprod.double().numpy()
    known = np.sqrt((1 - cumulative) / cumulative)
    return [*np.interp(timesteps, np.arange(len(known)), known).tolist(), 0.0]


def _karras_schedule(scheduler: DDPMScheduler, num_inference_steps: int) -> tuple[list[float], list[float]]:
    """Timesteps, and noise levels that fall evenly in their seventh root (Karras et al. 2022), then to 0."""
    cumulative = scheduler.alphas_cumprod.double().numpy()
    known = np.sqrt((1 - cumulative) / cumulative)
    roots = known[[-1, 0]] ** (1 / 7)
    sigmas = (roots[0] + np.linspace(0, 1, num_inference_steps) * (roots[1] - roots[0])) ** 7
    timesteps = np.interp(np.log(sigmas), np.log(known), np.arange(len(known))).round()
    return timesteps.tolist(), [*sigmas.tolist(), 0.0]


def _x0_weights(scheduler: DDPMScheduler, signal: float, spread: float) -> tuple[float, float]:
    """Weights of latents and prediction in x0, where the latents are signal x0 + spread noise.

    Raises:
        ValueError: the UNet predicts neither noise nor velocity.
    """
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        return 1 / signal, -spread / signal
    if kind == "v_prediction":
        return signal, -spread
    raise ValueError(f"prediction_type is {kind}, allowed are epsilon and v_prediction")
