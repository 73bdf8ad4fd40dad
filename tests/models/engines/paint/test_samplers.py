"""The tables against diffusers' own schedulers, step by step, for both kinds of prediction."""

import warnings
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler

from models.engines.paint.samplers import check_num_steps, make_scheduler, step_table
from models.jobs import SamplerName
from models.networks.paint.config import SD21_BASE_SCHEDULER

OWN: dict[SamplerName, tuple[Any, dict[str, Any]]] = {
    "ddpm": (DDPMScheduler, {"timestep_spacing": "leading"}),
    "ddim": (DDIMScheduler, {"timestep_spacing": "leading", "set_alpha_to_one": False}),
    "dpm++": (DPMSolverMultistepScheduler, {"use_karras_sigmas": True, "final_sigmas_type": "zero"}),
    "euler": (EulerDiscreteScheduler, {"timestep_spacing": "linspace"}),
}


def predict(rows: torch.Tensor, timestep: float) -> torch.Tensor:
    """Stands for a UNet."""
    return torch.sin(3 * rows + timestep / 500)


@pytest.mark.parametrize("num_steps", [1, 4, 20, 25])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("sampler", list(OWN))
def test_a_table_does_what_diffusers_does(sampler: SamplerName, prediction_type: str, num_steps: int) -> None:
    config = {**SD21_BASE_SCHEDULER, "prediction_type": prediction_type}
    made, changes = OWN[sampler]
    own = made.from_config({**config, "steps_offset": 0}, **changes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of NumPy, about diffusers
        own.set_timesteps(num_steps)
    table = step_table(make_scheduler(config, 0), num_steps, sampler)
    assert [step.timestep for step in table.steps] == pytest.approx(own.timesteps.tolist())

    first = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    expected = first * own.init_noise_sigma
    latents = previous = first.double() * table.initial_scale
    generator, again = torch.Generator().manual_seed(2), torch.Generator().manual_seed(2)
    for step, timestep in zip(table.steps, own.timesteps, strict=True):
        arguments = {"generator": generator} if sampler == "ddpm" else {}
        rows = own.scale_model_input(expected, timestep)
        expected = own.step(predict(rows, float(timestep)), timestep, expected, **arguments).prev_sample
        prediction = predict(latents * step.input_scale, step.timestep)
        x0 = step.x0_from_latents * latents + step.x0_from_prediction * prediction
        noise = torch.randn(1, 4, 8, 8, generator=again) if step.draws else torch.zeros(())
        latents = step.keep * latents + step.towards_x0 * x0 + step.towards_previous_x0 * previous + step.noise * noise
        previous = x0
        assert (latents - expected).abs().max() <= 2e-4 * expected.abs().max()
    assert torch.equal(generator.get_state(), again.get_state())


@pytest.mark.parametrize("sampler", list(OWN))
def test_all_numbers_of_steps_give_finite_tables(sampler: SamplerName) -> None:
    scheduler = make_scheduler(SD21_BASE_SCHEDULER, 0)
    for num_steps in (1, 2, 3, 999, 1000):
        table = step_table(scheduler, num_steps, sampler)
        assert len(table) == num_steps
        numbers = [
            value
            for step in table.steps
            for value in (step.keep, step.towards_x0, step.towards_previous_x0, step.noise)
        ]
        assert torch.isfinite(torch.tensor(numbers)).all()
        assert all(0 <= step.timestep <= 999 for step in table.steps)
    with pytest.raises(ValueError, match="is 1001, allowed are 1 to 1000"):
        step_table(scheduler, 1001, sampler)


def test_a_prediction_of_another_kind_is_refused() -> None:
    scheduler = make_scheduler({**SD21_BASE_SCHEDULER, "prediction_type": "sample"}, 0)
    with pytest.raises(ValueError, match="prediction_type is sample"):
        step_table(scheduler, 4)


@pytest.mark.parametrize(("offset", "most"), [(0, 1000), (1, 999)])
def test_steps_must_fit_the_schedule(offset: int, most: int) -> None:
    scheduler = make_scheduler(SD21_BASE_SCHEDULER, offset)
    check_num_steps(scheduler, 1)
    check_num_steps(scheduler, most)
    for wrong in (0, most + 1):
        with pytest.raises(ValueError, match=f"is {wrong}, allowed are 1 to {most}"):
            check_num_steps(scheduler, wrong)
