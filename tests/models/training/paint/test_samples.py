"""Pictures painted in training, against the service's own painter."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from models.engines.paint.painter import Painter
from models.engines.paint.prompt import pack_job
from models.engines.paint.samplers import make_scheduler
from models.jobs import Generated, PaintJob, PaintResult
from models.training.paint.samples import paint_samples
from models.training.paint.start import PaintStart
from tests.models.training.paint.pictures import CAPTIONS, SIDE_PX

STEPS = 3


@pytest.fixture
def start(start: PaintStart) -> PaintStart:
    start.model.eval().requires_grad_(False)
    return start


def samples(start: PaintStart, *captions: str, guidance_scale: float = 2.0, side_px: int = SIDE_PX) -> Tensor:
    scheduler = make_scheduler(start.scheduler_config, steps_offset=0)
    return paint_samples(
        start.model, start.vae, scheduler, start.tokenizer, captions, side_px, STEPS, guidance_scale=guidance_scale
    )


@pytest.mark.slow
def test_a_sample_is_what_the_service_paints_with_the_captions_number_as_seed(start: PaintStart) -> None:
    painted = samples(start, *CAPTIONS[:3])
    assert (painted.shape, painted.dtype, painted.device.type) == ((3, SIDE_PX, SIDE_PX, 3), torch.uint8, "cpu")
    painter = Painter(start.model, start.vae, start.scheduler_config, 0, {}, torch.device("cpu"))
    for number, caption in enumerate(CAPTIONS[:3]):
        job = PaintJob(
            job_id="1",
            prompt=caption,
            seed=number,
            guidance_scale=2.0,
            num_inference_steps=STEPS,
            height_px=SIDE_PX,
            width_px=SIDE_PX,
        )
        last = painter.paint(job, pack_job(job, start.tokenizer))
        assert isinstance(last, Generated) and isinstance(last.result, PaintResult)
        with Image.open(BytesIO(last.result.candidates[0].png)) as png:
            expected = np.asarray(png).astype(int)
        assert np.abs(painted[number].numpy().astype(int) - expected).max() <= 1


@pytest.mark.slow
def test_a_caption_alone_decides_beside_its_number(start: PaintStart) -> None:
    first, second = samples(start, "red", "red"), samples(start, "red", "It is green")
    assert torch.equal(first[0], second[0])
    assert not torch.equal(first[0], first[1]), "another seed"
    assert not torch.equal(first[1], second[1]), "another caption"


@pytest.mark.slow
def test_guidance_and_side_are_as_asked(start: PaintStart) -> None:
    assert not torch.equal(samples(start, "red"), samples(start, "red", guidance_scale=7.0))
    assert samples(start, "red", side_px=2 * SIDE_PX).shape == (1, 2 * SIDE_PX, 2 * SIDE_PX, 3)


@pytest.mark.slow
def test_painting_leaves_no_gradients_behind(start: PaintStart) -> None:
    start.model.requires_grad_(True)
    assert not samples(start, "red").requires_grad
    assert all(parameter.grad is None for parameter in start.model.parameters())
