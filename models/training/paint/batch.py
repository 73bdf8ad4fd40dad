"""Batches of captioned pictures: texts as the language model reads them, pictures, and the step's random numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from models.datasets.examples import CaptionedPicture
from models.engines.paint.prompt import paint_tree
from models.networks.cpm_bee.packing import PackedBatch, pack_paint
from models.networks.cpm_bee.tokenizer import Tokenizer, escape
from models.training.paint.noise import DiffusionDraws


@dataclass(frozen=True)
class PaintBatch:
    """B captioned pictures."""

    texts: PackedBatch
    text_mask: Tensor  # (B, L) bool, which text rows the UNet attends to
    pixels: Tensor  # (B, S, S, 3) uint8
    draws: DiffusionDraws

    def to(self, device: torch.device) -> Self:
        draws = replace(
            self.draws,
            timesteps=self.draws.timesteps.to(device),
            latent_noise=self.draws.latent_noise.to(device),
            noise=self.draws.noise.to(device),
        )
        return type(self)(self.texts.to(device), self.text_mask.to(device), self.pixels.to(device), draws)


def collate_pictures(pictures: Sequence[CaptionedPicture], tokenizer: Tokenizer, draws: DiffusionDraws) -> PaintBatch:
    """The batch of some pictures; where the draws say so their captions are empty.

    A text row attends to what it attends to in painting: a caption stands alone, and the empty text, which is the
    negative prompt there, keeps the padding up to the length of the caption that it stands for (SPEC §8.1).
    """
    captions = [picture.caption for picture in pictures]
    dropped = [row for row, without in enumerate(draws.without_caption) if without]
    kept = ["" if without else text for text, without in zip(captions, draws.without_caption, strict=True)]
    # The replaced captions come along for their lengths, to which all rows are padded.
    packed = pack_paint([paint_tree(escape(text)) for text in (*kept, *(captions[row] for row in dropped))], tokenizer)
    seen = packed.lengths[: len(kept)].clone()
    seen[dropped] = packed.lengths[len(kept) :]
    text_mask = torch.arange(packed.ids.shape[1]) < seen[:, None]  # (B, L)
    pixels = torch.from_numpy(np.stack([picture.pixels for picture in pictures]))
    return PaintBatch(_first_rows(packed, len(kept)), text_mask, pixels, draws)


def _first_rows(batch: PackedBatch, count: int) -> PackedBatch:
    """Texts alone: what decoding needs of a batch (extension words, placeholders, answers) is as it was."""
    per_row = ("ids", "subs", "positions", "segments", "contexts", "num_segments", "segment_rel_offsets", "samples")
    names = (*per_row, "spans", "lengths", "segment_rel")
    return replace(batch, **{name: getattr(batch, name)[:count] for name in names})
