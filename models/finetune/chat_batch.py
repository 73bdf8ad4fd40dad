"""Conversations as one batch of rows: a row for every round, with the earlier rounds as its context (SPEC §3.1, §9)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from models.chat.prompt import chat_tree, turn_text
from models.cpm_bee.data_tree import ANSWER_KEY, DataTree
from models.cpm_bee.packing import PackedBatch, collate_training, pack_tree
from models.cpm_bee.tokenizer import Tokenizer, escape
from models.finetune.examples import Conversation

# Stands in where nothing fits: every process takes part in every step
_EMPTY: DataTree = {**chat_tree("", "", 0), ANSWER_KEY: ""}


@dataclass(frozen=True)
class ChatBatch:
    """R rows of L tokens about N pictures; a picture is encoded once for all its rows."""

    rows: PackedBatch
    targets: Tensor  # (R, L)
    pixels: Tensor  # (N, S, S, 3) uint8; black where there is no picture at all
    pictures: Tensor  # (P,) number of the picture of every row that has one
    places: Tensor  # (P * Q,) where their placeholders are, counted through all rows' tokens
    num_skipped: int  # rounds that were too long

    def to(self, device: torch.device) -> "ChatBatch":
        return replace(
            self,
            rows=self.rows.to(device),
            targets=self.targets.to(device),
            pixels=self.pixels.to(device),
            pictures=self.pictures.to(device),
            places=self.places.to(device),
        )


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
        duplicates, length: as for `collate_training`; the reference's, for comparison.
    """
    sequences, row_pictures, pixels, num_skipped = [], [], [], 0
    for conversation in conversations:
        for tree in round_trees(conversation, num_image_tokens):
            sequence = pack_tree(tree, tokenizer)
            if len(sequence) > max_len:
                num_skipped += 1
                continue
            sequences.append(sequence)
            row_pictures.append(None if conversation.pixels is None else len(pixels))
        if conversation.pixels is not None:
            pixels.append(conversation.pixels)
    is_empty = not sequences
    rows, targets = collate_training(sequences or [pack_tree(_EMPTY, tokenizer)], tokenizer, length, duplicates)
    if is_empty:
        targets.fill_(-100)
    padded_length = rows.ids.shape[1]
    places = [
        torch.arange(start, end) + row * padded_length
        for row, bounds in enumerate(rows.image_bounds)
        for start, end in bounds
    ]
    black = np.zeros((image_size_px, image_size_px, 3), np.uint8)
    return ChatBatch(
        rows=rows,
        targets=targets,
        pixels=torch.from_numpy(np.stack(pixels or [black])),
        pictures=torch.tensor([picture for picture in row_pictures if picture is not None], dtype=torch.int64),
        places=torch.cat(places) if places else torch.zeros(0, dtype=torch.int64),
        num_skipped=num_skipped,
    )
