"""The plain painting that the benchmark compares with paints what the engine's networks and sampler paint."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.paint_side import jobs_of
from benchmarks.reference_paint import ReferencePainter
from models.checkpoints.bundled import bundled_checkpoint
from models.checkpoints.loading import load_paint
from models.checkpoints.tiny import write_tiny_checkpoints
from models.engines.paint.decoding import decode_latents, to_bytes
from models.engines.paint.denoise import Denoiser
from models.engines.paint.prompt import pack_job
from models.engines.paint.samplers import make_scheduler

LOAD = {"requests": 1, "candidates": 2, "sampler": "ddpm", "steps": 4}


@pytest.fixture(params=["noise", "velocity"])
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "velocity":
        return bundled_checkpoint("paint")
    write_tiny_checkpoints(tmp_path, seed=0)
    return tmp_path / "paint"


@pytest.mark.slow
def test_it_paints_the_same(checkpoint: Path) -> None:
    loaded = load_paint(checkpoint, device=torch.device("cpu"), dtype=torch.float32)
    painter = ReferencePainter(loaded, "cpu")
    (job,) = jobs_of(LOAD, size_px=64)
    painted = painter.paint(job)

    with torch.inference_mode():
        conditioning = loaded.model.encode_prompts(pack_job(job, loaded.tokenizer))
    latent_px = 1 << (len(loaded.vae.config.block_out_channels) - 1)
    denoiser = Denoiser(
        loaded.model.unet,
        make_scheduler(loaded.scheduler_config, 0),
        conditioning,
        num_candidates=2,
        latent_size=(64 // latent_px, 64 // latent_px),
        num_inference_steps=4,
        guidance_scale=job.guidance_scale,
        generators=torch.Generator().manual_seed(job.seed),
    )
    while not denoiser.is_done:
        denoiser.step()
    expected = to_bytes(decode_latents(loaded.vae, denoiser.latents)).numpy().astype(int)
    assert len(painted) == 2
    for picture, wanted in zip(painted, expected, strict=True):
        assert np.abs(np.asarray(picture).astype(int) - wanted).max() <= 1
