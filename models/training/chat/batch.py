"""Conversations as one batch of rows: a row for every round, with the earlier rounds as its context (SPEC §3.1, §9)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from models.datasets.examples import Conversation, PixelArray
from models.engines.chat.prompt import chat_tree, turn_text
from models.networks.cpm_bee.data_tree import ANSWER_KEY, DataTree, PackedSequence
from models.networks.cpm_bee.packing import IGNORED_TARGET, PackedBatch, collate_training, pack_tree
from models.networks.cpm_bee.tokenizer import Tokenizer, escape

MAX_GROUPS = 3
MIN_ROWS_OF_GROUP = 16
# Stands in where nothing fits, since every process takes part in every step.
_EMPTY: DataTree = chat_tree("", "", 0)


@dataclass(frozen=True)
class RowGroup:
    """G rows of L tokens, padded to the longest of them; a batch is cut into groups so as to compute less padding."""

    rows: PackedBatch
    targets: Tensor  # (G, L)
    pictures: Tensor  # (P,) number of the picture of every row that has one
    places: Tensor  # (P * Q,) where their placeholders are, counted through all rows' tokens

    def to(self, device: torch.device) -> "RowGroup":
        moved = {f.name: getattr(self, f.name).to(device) for f in fields(self)}
        return RowGroup(**moved)


@dataclass(frozen=True)
class ChatBatch:
    """Rows about N pictures; a picture is encoded once for all its rows."""

    groups: tuple[RowGroup, ...]
    pixels: Tensor  # (N, S, S, 3) uint8; a black one where there is no picture at all
    num_skipped_rounds: int  # too long
    num_skipped_conversations: int  # without a round: their pictures were of no use

    def to(self, device: torch.device) -> "ChatBatch":
        return replace(self, groups=tuple(group.to(device) for group in self.groups), pixels=self.pixels.to(device))


@dataclass(frozen=True)
class _Row:
    sequence: PackedSequence
    picture: int | None


def round_trees(conversation: Conversation, num_image_tokens: int) -> Iterator[DataTree]:
    """One data tree a round, its answer as the leaf to be learnt; texts are escaped here."""
    context = ""
    num_image_tokens = num_image_tokens if conversation.pixels is not None else 0
    for turn in conversation.rounds:
        question, answer = escape(turn.question), escape(turn.answer)
        yield {**chat_tree(question, context, num_image_tokens), ANSWER_KEY: answer}
        context += turn_text(question, answer)


def collate_conversations(
    conversations: Sequence[Conversation],
    tokenizer: Tokenizer,
    num_image_tokens: int,
    image_size_px: int,
    max_len: int,
    duplicates: bool = False,
    length: int = 0,
) -> ChatBatch:
    """Pack all rounds of all conversations; those of more than `max_len` tokens are left out and counted.

    Args:
        duplicates, length: as for `collate_training`; a length is given where the batch is compared to another's.
    """
    rows: list[_Row] = []
    pixels: list[PixelArray] = []
    num_rounds = 0
    for conversation in conversations:
        picture = None
        if conversation.pixels is not None:
            picture = len(pixels)
            pixels.append(conversation.pixels)
        for tree in round_trees(conversation, num_image_tokens):
            num_rounds += 1
            sequence = pack_tree(tree, tokenizer)
            if len(sequence) <= max_len:
                rows.append(_Row(sequence, picture))
    black = np.zeros((image_size_px, image_size_px, 3), np.uint8)
    return ChatBatch(
        groups=tuple(_groups(rows, tokenizer, duplicates, length)),
        pixels=torch.from_numpy(np.stack(pixels or [black])),
        num_skipped_rounds=num_rounds - len(rows),
        num_skipped_conversations=sum(not conversation.rounds for conversation in conversations),
    )


def _groups(rows: list[_Row], tokenizer: Tokenizer, duplicates: bool, length: int) -> Iterator[RowGroup]:
    """All rows collated as one batch, so that they share its extension columns, and cut by their lengths."""
    num_groups = 1 if length else min(MAX_GROUPS, max(1, len(rows) // MIN_ROWS_OF_GROUP))
    if num_groups > 1:
        rows = sorted(rows, key=lambda row: len(row.sequence))
    sequences = [row.sequence for row in rows] or [pack_tree(_EMPTY, tokenizer)]
    batch, targets = collate_training(sequences, tokenizer, length, duplicates)
    if not rows:
        targets = torch.full_like(targets, IGNORED_TARGET)
    for group in range(num_groups):
        first, end = (len(sequences) * bound // num_groups for bound in (group, group + 1))
        width = max(length, *map(len, sequences[first:end]), 0)
        part = _cut(batch, first, end, width)
        places = [
            torch.arange(start, stop) + row * width
            for row, bounds in enumerate(part.image_bounds)
            for start, stop in bounds
        ]
        pictures = [row.picture for row in rows[first:end] if row.picture is not None]
        yield RowGroup(
            rows=part,
            targets=targets[first:end, :width],
            pictures=torch.tensor(pictures, dtype=torch.int64),
            places=torch.cat([torch.zeros(0, dtype=torch.int64), *places]),
        )


def _cut(batch: PackedBatch, first: int, end: int, width: int) -> PackedBatch:
    """Some rows of a batch, without the padding that only the others need."""
    values = {f.name: getattr(batch, f.name) for f in fields(batch)}
    shared = ("extension_ids", "extension_subs", "padding")
    for name, value in values.items():
        if name not in shared:
            rows = value[first:end]
            is_per_token = isinstance(rows, Tensor) and rows.ndim == 2 and name != "segment_rel"
            values[name] = rows[:, :width] if is_per_token else rows
    return PackedBatch(**values)
