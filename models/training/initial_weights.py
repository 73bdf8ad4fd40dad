"""What a language model's weights begin as where they are random."""

from collections.abc import Sequence

import torch
from torch import Tensor

from models.networks.cpm_bee.tokenizer import Tokenizer

POSITION_BIAS_STD = 0.02
_MEANING_SHARE = 0.75  # of the variance of rows drawn alike


def draw_alike(embedding: Tensor, tokenizer: Tokenizer, spellings: Sequence[Sequence[str]], seed: int) -> None:
    """Draw the table's rows (V, W) of entries that mean the same anew, alike but for their kind of spelling.

    Args:
        spellings: of each meaning, kinds in the same order; a spelling that is no entry of the vocabulary is left out.
    """
    generator = torch.Generator().manual_seed(seed)
    width = embedding.shape[1]
    kinds = torch.randn(max(map(len, spellings), default=0), width, generator=generator)
    for meant in spellings:
        meaning = torch.randn(width, generator=generator)
        for kind, spelling in zip(kinds, meant, strict=False):
            ids, unknown = tokenizer.encode(spelling, {})
            if len(ids) == 1 and not unknown:
                row = _MEANING_SHARE**0.5 * meaning + (1 - _MEANING_SHARE) ** 0.5 * kind  # unit variance, as all rows
                embedding.data[ids[0]] = row.to(embedding)
