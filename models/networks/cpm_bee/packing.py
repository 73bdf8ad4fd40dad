"""Sequences of tokens as padded batches: prompts to be answered, texts to be painted, samples to be learnt.

Every per-token array is padded with zeros (SPEC §4.2): on the left where an answer is decoded after the prompt, on the
right in full forwards.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor

from models.networks.cpm_bee.data_tree import ANSWER_KEY, DataTree, PackedSequence, pack_tree
from models.networks.cpm_bee.tokenizer import Tokenizer

__all__ = [
    "PackedBatch",
    "PromptTooLong",
    "collate_chat",
    "collate_training",
    "pack_chat",
    "pack_paint",
    "pack_training",
    "pack_tree",
    "stacked",
]

IGNORED_TARGET = -100
DUMMY_EXTENSION = (0, 1)  # (id, sub) of the one column where a batch of full forwards has no extension words

Padding = Literal["left", "right"]


class PromptTooLong(ValueError):
    """A prompt's full conversion, answer leaf included, exceeds the limit (SPEC §6)."""

    def __init__(self, num_tokens: int, max_tokens: int) -> None:
        super().__init__(f"the prompt takes {num_tokens} tokens with its answer leaf; at most {max_tokens} are allowed")
        self.num_tokens = num_tokens
        self.max_tokens = max_tokens


@dataclass(frozen=True)
class PackedBatch:
    """B sequences of L tokens, padded; int64 tensors (B, L) unless said otherwise."""

    ids: Tensor
    subs: Tensor
    positions: Tensor
    segments: Tensor
    contexts: Tensor  # 1 for tokens that all may see, 0 for causal ones and padding
    num_segments: Tensor  # 0 in padding
    segment_rel_offsets: Tensor
    samples: Tensor
    spans: Tensor
    lengths: Tensor  # (B,) without padding
    segment_rel: Tensor  # (B, largest num_segments²), row-major, zero padded
    extension_ids: Tensor  # (E,) id of the family of logit column vocab_size + e
    extension_subs: Tensor  # (E,)
    image_bounds: list[list[tuple[int, int]]]  # per row: start and end of the placeholders, padding counted
    predict_segments: list[list[tuple[int, int]]]  # per row: (segment number, answer number)
    decode_tables: list[dict[int, str]]  # per row: id or extension column -> string
    padding: Padding

    def to(self, device: torch.device | str) -> "PackedBatch":
        if self.ids.device == torch.device(device):
            return self
        tensors = {f.name: value for f in fields(self) if isinstance(value := getattr(self, f.name), Tensor)}
        return replace(self, **{name: tensor.to(device) for name, tensor in tensors.items()})  # type: ignore[arg-type]


@dataclass(frozen=True)
class ChatSequence:
    """A prompt without its answer leaves, and what was known of them."""

    tokens: PackedSequence
    predict_segments: list[tuple[int, int]]  # (segment number, answer number)
    full_length: int  # with the answer leaves


def convert_chat(data: DataTree, tokenizer: Tokenizer, max_input_tokens: int | None = None) -> ChatSequence:
    """Convert one chat prompt; what lies below `<ans>` only marks where answers go (SPEC §3.1).

    Raises:
        PromptTooLong: the full conversion exceeds `max_input_tokens`.
        ValueError: no answer leaf, or a text that does not parse.
    """
    if ANSWER_KEY not in data:
        raise ValueError(f"a chat prompt needs the key {ANSWER_KEY!r}, got {list(data)}")
    full = pack_tree({**data, ANSWER_KEY: number_answers(data[ANSWER_KEY])}, tokenizer)
    if not full.predict_segments:
        raise ValueError(f"no answer to predict: {ANSWER_KEY!r} holds no text")
    if max_input_tokens is not None and len(full) > max_input_tokens:
        raise PromptTooLong(len(full), max_input_tokens)
    predict_segments = [(segment, answer) for answer, segment in enumerate(full.predict_segments, start=1)]
    return ChatSequence(_context_only(full), predict_segments, len(full))


def collate_chat(sequences: Sequence[ChatSequence], tokenizer: Tokenizer) -> PackedBatch:
    """Left-padded batch; extension columns are shared by equal (family, sub) pairs of all rows (SPEC §3.1)."""
    columns: dict[tuple[int, int], int] = {}
    decode_tables: list[dict[int, str]] = []
    for sequence in sequences:
        table: dict[int, str] = {}
        # Columns are numbered family by family, not in the order of the text.
        for family, subs in sequence.tokens.families.items():
            if family == ANSWER_KEY:
                continue
            family_id = tokenizer.special_ids[family]
            for extension_id, sub in subs.items():
                column = family_id
                if sub > 0:
                    column = columns.setdefault((family_id, sub), tokenizer.vocab_size + len(columns))
                table[column] = sequence.tokens.extension_table[extension_id]
        decode_tables.append(table)
    batch = _collate([sequence.tokens for sequence in sequences], "left", columns)
    return replace(batch, predict_segments=[list(s.predict_segments) for s in sequences], decode_tables=decode_tables)


def stacked(batches: Sequence[PackedBatch]) -> PackedBatch:
    """The prompts of several batches of one length as the rows of one. Its extension columns are the first one's."""
    if len(batches) == 1:
        return batches[0]
    names = [f.name for f in fields(PackedBatch) if f.name not in ("extension_ids", "extension_subs", "padding")]
    joined: dict[str, Any] = {}
    for name in names:
        values = [getattr(batch, name) for batch in batches]
        joined[name] = torch.cat(values) if isinstance(values[0], Tensor) else [one for rows in values for one in rows]
    return replace(batches[0], **joined)


def pack_chat(prompts: Sequence[DataTree], tokenizer: Tokenizer, max_input_tokens: int | None = None) -> PackedBatch:
    """Chat prompts without their answer leaves, padded on the left (SPEC §3.1, §7). Raises as `convert_chat`."""
    return collate_chat([convert_chat(data, tokenizer, max_input_tokens) for data in prompts], tokenizer)


def pack_paint(texts: Sequence[DataTree], tokenizer: Tokenizer) -> PackedBatch:
    """Paint's texts, all context, padded on the right to the longest of them (SPEC §3.2, §8.1).

    Extension columns are those of training: one for each occurrence, and a dummy where there is none (SPEC §16).
    """
    sequences = [pack_tree(data, tokenizer) for data in texts]
    return _collate(sequences, "right", _occurrences(sequences) or [DUMMY_EXTENSION])


def pack_training(
    samples: Sequence[DataTree], tokenizer: Tokenizer, max_len: int, duplicates: bool = False
) -> tuple[PackedBatch, Tensor]:
    """Samples with their answers, padded on the right to `max_len`, and the targets (B, max_len) (SPEC §9).

    Args:
        duplicates: a column for each occurrence of an extension word, as the reference has; else one for each word.

    Raises:
        PromptTooLong: a sample of more than `max_len` tokens.
    """
    sequences = [pack_tree(data, tokenizer) for data in samples]
    for sequence in sequences:
        if len(sequence) > max_len:
            raise PromptTooLong(len(sequence), max_len)
    return collate_training(sequences, tokenizer, max_len, duplicates)


def collate_training(
    sequences: Sequence[PackedSequence], tokenizer: Tokenizer, length: int = 0, duplicates: bool = False
) -> tuple[PackedBatch, Tensor]:
    """Batch and targets (B, L) of packed samples; L is `length` or that of the longest (SPEC §9)."""
    occurrences = _occurrences(sequences)
    columns = occurrences if duplicates else list(dict.fromkeys(occurrences))
    places = list(range(len(columns))) if duplicates else [columns.index(word) for word in occurrences]
    batch = _collate(sequences, "right", columns or [DUMMY_EXTENSION], length)
    return batch, _targets(sequences, tokenizer, batch.ids.shape[1], places)


def number_answers(answers: str | DataTree) -> str | DataTree:
    """Every leaf replaced by `<ans_1>`, `<ans_2>`, ... in order."""
    count = 0

    def number(tree: str | DataTree) -> str | DataTree:
        nonlocal count
        if isinstance(tree, str):
            count += 1
            return f"<ans_{count}>"
        return {key: number(value) for key, value in tree.items()}

    return number(answers)


def _context_only(full: PackedSequence) -> PackedSequence:
    """The tokens that are given; those to be answered are taken out."""
    kept = [index for index, context in enumerate(full.contexts) if context]
    moved = {index: place for place, index in enumerate(kept)}
    return replace(
        full,
        ids=[full.ids[i] for i in kept],
        subs=[full.subs[i] for i in kept],
        segments=[full.segments[i] for i in kept],
        contexts=[1] * len(kept),
        # The end is looked up at the eos behind the placeholders, which is always there.
        image_bounds=[(moved[start], moved[end]) for start, end in full.image_bounds],
    )


def _occurrences(sequences: Iterable[PackedSequence]) -> list[tuple[int, int]]:
    """(family id, sub) of every token with sub > 0, in order."""
    return [
        (index, sub)
        for sequence in sequences
        for index, sub in zip(sequence.ids, sequence.subs, strict=True)
        if sub > 0
    ]


def _targets(sequences: Sequence[PackedSequence], tokenizer: Tokenizer, max_len: int, places: Sequence[int]) -> Tensor:
    """The next token's id or column at tokens to be answered, eos at the end of each answer (SPEC §9).

    Args:
        places: number of the extension column of each occurrence of an extension word in the batch.
    """
    targets = torch.full((len(sequences), max_len), IGNORED_TARGET)  # (B, L)
    remaining = iter(places)
    for row, sequence in enumerate(sequences):
        labels = [
            tokenizer.vocab_size + next(remaining)
            if sub > 0
            else tokenizer.eos_id
            if index == tokenizer.bos_id
            else index
            for index, sub in zip(sequence.ids, sequence.subs, strict=True)
        ]
        labels.append(tokenizer.eos_id)  # behind the last token
        for position in range(1, len(sequence)):
            if not sequence.contexts[position]:
                targets[row, position] = labels[position + 1]
    return targets


def _collate(
    sequences: Sequence[PackedSequence], padding: Padding, columns: Iterable[tuple[int, int]], length: int = 0
) -> PackedBatch:
    """Pad to the longest sequence, or to `length` if that is more."""
    extensions = list(columns)
    padded_length = max(length, *map(len, sequences)) if sequences else length
    starts = [padded_length - len(s) if padding == "left" else 0 for s in sequences]

    def pad(rows: Iterable[Sequence[int]]) -> list[list[int]]:
        return [
            [*[0] * start, *values, *[0] * (padded_length - start - len(values))]
            for start, values in zip(starts, rows, strict=True)
        ]

    per_token = (
        pad(s.ids for s in sequences),
        pad(s.subs for s in sequences),
        pad(range(len(s)) for s in sequences),
        pad(s.segments for s in sequences),
        pad(s.contexts for s in sequences),
        pad([s.num_segments] * len(s) for s in sequences),
    )
    # Made as one tensor: a prompt's arrays are short, and each tensor made of a list has its price
    arrays = torch.tensor(per_token, dtype=torch.int64).view(len(per_token), len(sequences), padded_length)
    ids, subs, positions, segments, contexts, num_segments = arrays.unbind()  # (B, L) each
    zeros = torch.zeros_like(ids)
    width = max((len(s.segment_rel) for s in sequences), default=0)
    relations = [[*s.segment_rel, *[0] * (width - len(s.segment_rel))] for s in sequences]
    segment_rel = torch.tensor(relations, dtype=torch.int64).view(len(sequences), width)
    return PackedBatch(
        ids=ids,
        subs=subs,
        positions=positions,
        segments=segments,
        contexts=contexts,
        num_segments=num_segments,
        segment_rel_offsets=zeros,
        samples=zeros,
        spans=zeros,
        lengths=torch.tensor([len(s) for s in sequences]),
        segment_rel=segment_rel,
        extension_ids=torch.tensor([index for index, _ in extensions], dtype=torch.int64),
        extension_subs=torch.tensor([sub for _, sub in extensions], dtype=torch.int64),
        image_bounds=[
            [(start + a, start + b) for a, b in s.image_bounds] for start, s in zip(starts, sequences, strict=True)
        ],
        predict_segments=[[] for _ in sequences],
        decode_tables=[{} for _ in sequences],
        padding=padding,
    )
