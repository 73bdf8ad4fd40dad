"""Batches: texts as painting reads them, pictures, the step's random numbers."""

from dataclasses import fields

import numpy as np
import pytest
import torch
from torch import Tensor

from models.datasets.examples import CaptionedPicture
from models.engines.paint.prompt import NEGATIVE_ROW, PROMPT_ROW, pack_job
from models.jobs import PaintJob
from models.networks.cpm_bee.packing import PackedBatch
from models.training.paint.batch import collate_pictures
from models.training.paint.noise import DiffusionDraws
from models.training.paint.start import PaintStart
from tests.models.training.paint.pictures import CAPTIONS, Squares

NOISE = torch.arange(4 * 4 * 4 * 4, dtype=torch.float32).view(4, 4, 4, 4)
PER_TOKEN = ("ids", "subs", "positions", "segments", "contexts", "num_segments")


def draws(*without_caption: bool) -> DiffusionDraws:
    count = len(without_caption)
    return DiffusionDraws(without_caption, torch.arange(count), NOISE[:count], -NOISE[:count])


def pictures(count: int = 4) -> list[CaptionedPicture]:
    return [Squares().picture(index, 0) for index in range(count)]


def seen_tokens(batch: PackedBatch, row: int) -> dict[str, list[int]]:
    length = int(batch.lengths[row])
    return {name: getattr(batch, name)[row, :length].tolist() for name in PER_TOKEN}


@pytest.mark.slow
def test_a_text_is_the_one_that_painting_reads(start: PaintStart) -> None:
    batch = collate_pictures(pictures(), start.tokenizer, draws(False, True, False, True))
    for row, caption in enumerate(CAPTIONS):
        job = pack_job(PaintJob(job_id="1", prompt=caption), start.tokenizer)
        place = NEGATIVE_ROW if row in (1, 3) else PROMPT_ROW
        assert seen_tokens(batch.texts, row) == seen_tokens(job, place)
        assert int(batch.text_mask[row].sum()) == job.ids.shape[1], "the empty text is as long as its caption"


@pytest.mark.slow
def test_a_mask_hides_what_is_padding_for_the_batch_alone(start: PaintStart) -> None:
    batch = collate_pictures(pictures(), start.tokenizer, draws(False, False, False, False))
    assert batch.text_mask.dtype == torch.bool and batch.text_mask.shape == batch.texts.ids.shape
    for row, length in enumerate(batch.texts.lengths.tolist()):
        assert batch.text_mask[row].tolist() == [place < length for place in range(batch.text_mask.shape[1])]
    assert batch.text_mask.all(1).tolist().count(True) == 1, "one caption is the longest"


@pytest.mark.slow
def test_replaced_captions_leave_no_rows_behind(start: PaintStart) -> None:
    batch = collate_pictures(pictures(), start.tokenizer, draws(True, True, True, True))
    values = {field.name: getattr(batch.texts, field.name) for field in fields(batch.texts)}
    rows = {name: len(value) for name, value in values.items() if isinstance(value, Tensor)}
    assert {name for name, count in rows.items() if count != 4} <= {"extension_ids", "extension_subs"}
    assert (batch.texts.lengths == batch.texts.lengths[0]).all(), "all of them empty"
    assert len(set(batch.text_mask.sum(1).tolist())) > 1


@pytest.mark.slow
def test_a_caption_is_quoted_as_user_text(start: PaintStart) -> None:
    assert "<" in CAPTIONS[2]
    batch = collate_pictures([Squares().picture(2, 0)], start.tokenizer, draws(False))
    ids = batch.texts.ids[0, : int(batch.texts.lengths[0])].tolist()
    assert "a << b" in start.tokenizer.decode(ids, {})


@pytest.mark.slow
def test_pictures_and_draws_come_as_they_are_and_move_together(start: PaintStart) -> None:
    examples = pictures(2)
    batch = collate_pictures(examples, start.tokenizer, draws(False, True))
    assert batch.pixels.dtype == torch.uint8
    np.testing.assert_array_equal(batch.pixels.numpy(), np.stack([example.pixels for example in examples]))
    moved = batch.to(torch.device("meta"))
    tensors = [moved.text_mask, moved.pixels, moved.draws.timesteps, moved.draws.latent_noise, moved.draws.noise]
    assert all(tensor.is_meta for tensor in [*tensors, moved.texts.ids, moved.texts.segment_rel])
    assert moved.draws.without_caption == (False, True)
    stayed = batch.to(torch.device("cpu"))
    assert torch.equal(stayed.draws.latent_noise, NOISE[:2]) and torch.equal(stayed.draws.noise, -NOISE[:2])
    assert stayed.draws.timesteps.tolist() == [0, 1]


@pytest.mark.slow
def test_an_empty_caption_keeps_the_length_of_the_one_it_stands_for(start: PaintStart) -> None:
    pictures = [Squares().picture(index, 0) for index in range(4)]
    noise = torch.zeros(4, 4, 4, 4)
    full = collate_pictures(pictures, start.tokenizer, DiffusionDraws((False,) * 4, torch.zeros(4), noise, noise))
    some = collate_pictures(
        pictures, start.tokenizer, DiffusionDraws((True, False, True, False), torch.zeros(4), noise, noise)
    )
    assert torch.equal(full.text_mask, some.text_mask)
    assert torch.equal(full.text_mask.sum(dim=1), full.texts.lengths)
    assert some.texts.lengths[0] < full.texts.lengths[0]
    assert torch.equal(some.texts.ids[1], full.texts.ids[1])
    assert len(set(full.texts.lengths.tolist())) > 1
