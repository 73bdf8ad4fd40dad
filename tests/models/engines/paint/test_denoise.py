"""The sampler against its formulas written out in NumPy's float64 (SPEC §8.2 to §8.4), and its behaviour in trouble."""

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from models.engines.paint.denoise import Denoiser
from models.engines.paint.samplers import make_scheduler
from models.engines.paint.sampling import Generators, candidate_generators
from models.jobs import JobRejected
from models.networks.paint.config import SD21_BASE_SCHEDULER

WIDTH = 8  # of the conditioning
SIZE = (8, 8)


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    torch.manual_seed(3)
    return UNet2DConditionModel(
        block_out_channels=(8, 8),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=2,
        cross_attention_dim=WIDTH,
    ).eval()


@pytest.fixture(scope="module")
def conditioning() -> Tensor:
    return torch.randn(2, 5, WIDTH, generator=torch.Generator().manual_seed(9))


def denoiser(
    unet: Any, conditioning: Tensor, generators: Generators, num_candidates: int = 1, offset: int = 0, **settings: Any
) -> Denoiser:
    settings = {"num_inference_steps": 4, "guidance_scale": 7.5, **settings}
    return Denoiser(
        unet,
        make_scheduler(SD21_BASE_SCHEDULER, offset),
        conditioning,
        num_candidates=num_candidates,
        latent_size=SIZE,
        generators=generators,
        **settings,
    )


def run(denoiser: Denoiser) -> Tensor:
    while not denoiser.is_done:
        denoiser.step()
    return denoiser.latents


def reference_step(x: np.ndarray, e: np.ndarray, z: np.ndarray, t: int, stride: int) -> np.ndarray:
    """SPEC §8.4, one line a formula."""
    b = np.linspace(np.sqrt(0.00085), np.sqrt(0.012), 1000) ** 2
    cumulative = np.cumprod(1 - b)
    a_t = cumulative[t]
    a_p = cumulative[t - stride] if t - stride >= 0 else 1.0
    a = a_t / a_p
    c = 1 - a
    x0 = (x - np.sqrt(1 - a_t) * e) / np.sqrt(a_t)
    mean = np.sqrt(a_p) * c / (1 - a_t) * x0 + np.sqrt(a) * (1 - a_p) / (1 - a_t) * x
    noise = np.sqrt(max((1 - a_p) / (1 - a_t) * c, 1e-20)) * z if t > 0 else 0.0
    return mean + noise


@pytest.mark.parametrize(
    ("offset", "steps", "first", "last"), [(0, 50, 980, 0), (1, 50, 981, 1), (0, 8, 875, 0), (1, 7, 853, 1)]
)
def test_timesteps(unet: Any, conditioning: Tensor, offset: int, steps: int, first: int, last: int) -> None:
    sampler = denoiser(unet, conditioning, torch.Generator(), offset=offset, num_inference_steps=steps)
    stride = 1000 // steps
    assert sampler.timesteps == [(steps - 1 - i) * stride + offset for i in range(steps)]
    assert (sampler.timesteps[0], sampler.timesteps[-1]) == (first, last)


@pytest.mark.slow
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("guidance_scale", [7.5, 1.0])
def test_steps_follow_the_written_out_formulas(
    unet: Any, conditioning: Tensor, offset: int, guidance_scale: float
) -> None:
    generator = torch.Generator().manual_seed(11)
    sampler = denoiser(unet, conditioning, generator, 2, offset, guidance_scale=guidance_scale)
    again = torch.Generator().manual_seed(11)
    x = torch.randn(2, 4, *SIZE, generator=again).double().numpy()
    assert np.array_equal(sampler.latents.double().numpy(), x)

    for t in sampler.timesteps:
        sampler.step()
        with torch.inference_mode():
            rows = torch.from_numpy(np.concatenate([x, x])).float()
            texts = conditioning[[0, 0, 1, 1]]
            noise = unet(rows, t, texts).sample.double().numpy()
        e = noise[:2] + guidance_scale * (noise[2:] - noise[:2])
        z = torch.randn(2, 4, *SIZE, generator=again).double().numpy() if t > 0 else np.zeros_like(x)
        x = reference_step(x, e, z, t, 1000 // len(sampler.timesteps))
        np.testing.assert_allclose(sampler.latents.numpy(), x, atol=2e-5 * np.abs(x).max())
    # All of the reference's noise was drawn, and not one tensor more.
    assert torch.equal(generator.get_state(), again.get_state())


class RecordingUNet(torch.nn.Module):
    """Predicts each row's mean text, and keeps what it was called with; refuses batches of over `most_rows`."""

    def __init__(self, most_rows: int = 100, error: type[Exception] = torch.OutOfMemoryError) -> None:
        super().__init__()
        self.config = type("Config", (), {"in_channels": 4})
        self.dtype = torch.float32
        self.most_rows = most_rows
        self.error = error
        self.calls: list[tuple[Tensor, Tensor]] = []

    def forward(self, rows: Tensor, timestep: Tensor, texts: Tensor, return_dict: bool) -> tuple[Tensor]:
        self.calls.append((rows, texts))
        if len(rows) > self.most_rows:
            raise self.error("CUDA out of memory. Tried to allocate 9.99 GiB")
        return (texts.mean((1, 2))[:, None, None, None].expand(rows.shape) + 0.1 * rows,)


def test_guidance_batch_has_all_negative_rows_first(conditioning: Tensor) -> None:
    unet = RecordingUNet()
    sampler = denoiser(unet, conditioning, candidate_generators(0, 3), 3)
    start = sampler.latents
    sampler.step()

    ((rows, texts),) = unet.calls
    assert torch.equal(rows, torch.cat([start, start]))
    assert torch.equal(texts, torch.cat([conditioning[:1].expand(3, -1, -1), conditioning[1:].expand(3, -1, -1)]))
    negative, conditional = conditioning.mean((1, 2))
    expected = negative + 7.5 * (conditional - negative) + 0.1 * start
    assert torch.allclose(sampler.noise_prediction, expected, atol=1e-5)


def test_guidance_of_one_still_asks_both(conditioning: Tensor) -> None:
    unet = RecordingUNet()
    denoiser(unet, conditioning, torch.Generator(), guidance_scale=1.0).step()
    assert len(unet.calls[0][0]) == 2


@pytest.mark.slow
def test_each_candidate_equals_its_seed_alone(unet: Any, conditioning: Tensor) -> None:
    together = run(denoiser(unet, conditioning, candidate_generators(40, 3), 3))
    for i in range(3):
        alone = run(denoiser(unet, conditioning, candidate_generators(40 + i, 1)))
        assert torch.allclose(together[i : i + 1], alone, rtol=0, atol=1e-4 * alone.abs().max().item())
    assert not torch.allclose(together[0], together[1], atol=0.1)


def test_a_shared_generator_draws_for_all_candidates_at_once(unet: Any, conditioning: Tensor) -> None:
    shared = denoiser(unet, conditioning, torch.Generator().manual_seed(40), 2).latents
    own = denoiser(unet, conditioning, candidate_generators(40, 2), 2).latents
    assert torch.equal(shared, torch.randn(2, 4, *SIZE, generator=torch.Generator().manual_seed(40)))
    assert not torch.equal(shared[1], own[1])


def test_latents_may_be_given(unet: Any, conditioning: Tensor) -> None:
    given = torch.ones(1, 4, *SIZE)
    assert torch.equal(denoiser(unet, conditioning, torch.Generator(), latents=given).latents, given)


def test_predicted_latents_are_the_finished_ones_at_the_end(unet: Any, conditioning: Tensor) -> None:
    sampler = denoiser(unet, conditioning, torch.Generator().manual_seed(1))
    run(sampler)
    # The last step of the pinned timesteps draws nothing and lands on its own prediction.
    assert torch.allclose(sampler.predicted_latents, sampler.latents, atol=1e-5)


@pytest.mark.parametrize(
    ("most_rows", "sizes"), [(8, [8]), (4, [8, 4, 4]), (3, [8, 4, 2, 2, 2, 2]), (1, [8, 4, 2, *[1] * 8])]
)
def test_out_of_memory_halves_the_rows_and_keeps_the_numbers(
    conditioning: Tensor, most_rows: int, sizes: list[int]
) -> None:
    roomy, tight = RecordingUNet(), RecordingUNet(most_rows)
    expected = run(denoiser(roomy, conditioning, candidate_generators(5, 4), 4))
    sampler = denoiser(tight, conditioning, candidate_generators(5, 4), 4)

    sampler.step()
    assert [len(rows) for rows, _ in tight.calls] == sizes
    tight.calls.clear()
    assert torch.allclose(run(sampler), expected, atol=1e-5)
    assert max(len(rows) for rows, _ in tight.calls) == sizes[-1], "later steps must not try the full batch again"


def test_out_of_memory_with_a_single_row_is_raised(conditioning: Tensor) -> None:
    with pytest.raises(torch.OutOfMemoryError):
        denoiser(RecordingUNet(most_rows=0), conditioning, torch.Generator()).step()


def test_other_errors_are_not_taken_for_lack_of_memory(conditioning: Tensor) -> None:
    class Broken(RuntimeError):
        def __str__(self) -> str:
            return "shapes do not fit"

    unet = RecordingUNet(most_rows=0, error=Broken)
    with pytest.raises(Broken):
        denoiser(unet, conditioning, torch.Generator()).step()
    assert len(unet.calls) == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_latents_that_are_not_finite_end_the_sampling(conditioning: Tensor, value: float) -> None:
    sampler = denoiser(RecordingUNet(), conditioning, candidate_generators(0, 3), 3)
    sampler.step()
    sampler.sampling.latents = sampler.latents.clone()
    sampler.latents[1, 0, 0, 0] = value
    with pytest.raises(JobRejected, match=r"candidates \[1\] are not finite after step 2 of 4 in float32") as caught:
        sampler.step()
    assert caught.value.code == "generation_failed"


def test_the_most_steps_allowed_can_be_taken(unet: Any, conditioning: Tensor) -> None:
    sampler = denoiser(RecordingUNet(), conditioning, torch.Generator(), offset=1, num_inference_steps=999)
    assert (sampler.timesteps[0], sampler.timesteps[-1]) == (999, 1)
    sampler.step()
