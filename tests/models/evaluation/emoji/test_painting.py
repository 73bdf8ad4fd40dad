"""Prompts painted in batches."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models.checkpoints.loading import load_paint
from models.engines.paint.prompt import pack_job
from models.evaluation.emoji.painting import PaintSettings, make_painter, paint
from models.jobs import Generated, PaintJob, PaintResult
from models.networks.cpm_bee.folding import fold_scalings
from tests.models.evaluation.emoji.checkpoint import SIDE_PX, write_emoji_checkpoint


@pytest.mark.slow
def test_prompts_painted_together_are_what_the_service_paints_of_each(tmp_path: Path) -> None:
    write_emoji_checkpoint(tmp_path, num_names=8)
    loaded = load_paint(tmp_path / "paint", dtype=torch.float32)
    fold_scalings(loaded.model.llm)
    prompts = ["grapes", "红苹果", "a prompt of several words", "melon"]
    pictures = paint(loaded, prompts, PaintSettings(3, 7.5, seed=40), lambda count: None)
    painter = make_painter(loaded)
    for place, (prompt, picture) in enumerate(zip(prompts, pictures, strict=True)):
        job = PaintJob(
            job_id="",
            prompt=prompt,
            num_inference_steps=3,
            height_px=SIDE_PX,
            width_px=SIDE_PX,
            seed=40 + place,
        )
        last = painter.paint(job, pack_job(job, loaded.tokenizer))
        assert isinstance(last, Generated) and isinstance(last.result, PaintResult)
        with Image.open(BytesIO(last.result.candidates[0].png)) as png:
            expected = np.asarray(png).astype(int)
        assert np.abs(picture.astype(int) - expected).max() <= 1  # of 255: sums in another order
