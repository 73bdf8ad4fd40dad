"""One request's way: what is drawn, and by whom."""

import torch

from models.engines.paint.samplers import make_scheduler, step_table
from models.engines.paint.sampling import Generators, Sampling, candidate_generators
from models.jobs import SamplerName
from models.networks.paint.config import SD21_BASE_SCHEDULER


def sampling(generators: Generators, sampler: SamplerName = "ddpm", candidates: int = 2) -> Sampling:
    table = step_table(make_scheduler(SD21_BASE_SCHEDULER, 0), 4, sampler)
    texts = torch.arange(2.0)[:, None, None].expand(2, 3, 8)
    return Sampling(
        table, texts, num_candidates=candidates, latent_shape=(4, 8, 8), guidance_scale=1.0, generators=generators
    )


def test_candidates_draw_from_generators_of_their_own() -> None:
    begun = sampling(candidate_generators(5, 2))
    for i in range(2):
        again = torch.Generator().manual_seed(5 + i)
        assert torch.equal(begun.latents[i], torch.randn(1, 4, 8, 8, generator=again)[0])
    assert torch.equal(begun.negative_texts, torch.zeros(2, 3, 8))
    assert torch.equal(begun.texts, torch.ones(2, 3, 8))


def test_noise_is_drawn_where_the_step_takes_some() -> None:
    generators = candidate_generators(5, 2)
    begun = sampling(generators)
    noise = begun.draw()
    assert noise.shape == begun.latents.shape and noise.abs().max() > 0
    for _ in range(3):
        begun.advance(begun.latents, begun.latents, begun.latents)
    state = generators[0].get_state()
    assert begun.next_step.timestep == 0 and not begun.draw().any()
    assert torch.equal(generators[0].get_state(), state), "the last step draws nothing"
    begun.advance(begun.latents, begun.latents, begun.latents)
    assert begun.is_done


def test_other_samplers_draw_the_first_latents_alone() -> None:
    for sampler in ("ddim", "dpm++", "euler"):
        assert not sampling(candidate_generators(0, 2), sampler).draw().any()  # type: ignore[arg-type]


def test_numbers_are_not_shared() -> None:
    assert sampling(candidate_generators(0, 2)).number != sampling(candidate_generators(0, 2)).number
