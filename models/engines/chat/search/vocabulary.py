"""What the columns of a batch's logits stand for, and what is done to them before tokens are chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.networks.cpm_bee.packing import PackedBatch
from models.networks.cpm_bee.tokenizer import Tokenizer

MASKED_LOGIT = -10000.0  # not -inf: the reference's penalty multiplies it (SPEC §11.19)


class NonFiniteLogits(Exception):
    """The model's logits hold NaN or infinity."""


@dataclass(frozen=True)
class AnswerVocabulary:
    """Logit columns of one batch: the vocabulary, then E extension columns.

    Args:
        extension_ids: token id that is fed for each extension column.
        extension_subs: its sub index.
        tables: per sentence, id or extension column -> text (SPEC §3.1); it decides which columns a sentence may use.
        segments: per sentence, the segment number of its answer.
    """

    vocab_size: int
    bos_id: int
    eos_id: int
    unk_id: int
    extension_ids: Sequence[int]
    extension_subs: Sequence[int]
    tables: Sequence[Mapping[int, str]]
    segments: Sequence[int]

    @classmethod
    def of_batch(cls, batch: PackedBatch, tokenizer: Tokenizer) -> "AnswerVocabulary":
        """The columns of a packed chat batch, whose rows have one answer each."""
        segments = []
        for leaves in batch.predict_segments:
            assert len(leaves) == 1, f"a chat prompt has one answer, got {len(leaves)}"
            segments.append(leaves[0][0])
        return cls(
            vocab_size=tokenizer.vocab_size,
            bos_id=tokenizer.bos_id,
            eos_id=tokenizer.eos_id,
            unk_id=tokenizer.unk_id,
            extension_ids=batch.extension_ids.tolist(),
            extension_subs=batch.extension_subs.tolist(),
            tables=batch.decode_tables,
            segments=segments,
        )

    def fed(self, column: int) -> tuple[int, int]:
        """Token id and sub index that are fed after `column` was chosen."""
        if column < self.vocab_size:
            return column, 0
        return self.extension_ids[column - self.vocab_size], self.extension_subs[column - self.vocab_size]

    def column_mask(self, device: torch.device) -> "ColumnMask":
        """`<unk>` where the sentence has no word for it, and the other sentences' extension words (SPEC §7 step 2)."""
        columns = [self.unk_id, *range(self.vocab_size, self.vocab_size + len(self.extension_ids))]
        blocked = [[column not in table for column in columns] for table in self.tables]
        return ColumnMask(torch.tensor(columns, device=device), torch.tensor(blocked, device=device))


@dataclass(frozen=True)
class ColumnMask:
    """Columns that only some sentences may use.

    Args:
        columns: (1 + E,) int64.
        blocked: (B, 1 + E) bool.
    """

    columns: Tensor
    blocked: Tensor

    def apply(self, logits: Tensor) -> None:
        """Writes MASKED_LOGIT into the blocked columns of logits (B, K, C), in place."""
        allowed = logits[:, :, self.columns].masked_fill(self.blocked[:, None, :], MASKED_LOGIT)  # (B, K, 1 + E)
        logits[:, :, self.columns] = allowed


def penalise_repetition(logits: Tensor, fed_ids: Tensor, penalty: float) -> None:
    """Divides the positive and multiplies the negative logits of the ids that were fed, in place (SPEC §7 step 3).

    Args:
        logits: (B, K, C).
        fed_ids: (B, K, T) int64; an id that occurs twice is penalised once.
    """
    repeated = logits.gather(-1, fed_ids)
    logits.scatter_(-1, fed_ids, torch.where(repeated < 0, repeated * penalty, repeated / penalty))
