"""Reading pictures and prompts, in slices short enough that running answers wait for none of them.

A prompt's tokens see one another in both directions, so it is read layer by layer, never token by token; several
prompts are read together, their tokens behind one another as rows of one product. Q image tokens, L tokens of a
prompt, M of all that are read together, P prompts of one length, D width, H heads, Dh head width.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from models.engines.chat.kv_pool import KVPool
from models.networks.chat.model import ChatModel
from models.networks.cpm_bee.answer_bias import segment_bias_to_whole_prompt
from models.networks.cpm_bee.layers import Attention
from models.networks.cpm_bee.model import CPMBee
from models.networks.cpm_bee.packing import PackedBatch, stacked
from models.networks.cpm_bee.position_bias import AttentionBias, whole_prompt_bias
from models.networks.vision.preprocess import normalise


@dataclass(frozen=True)
class PromptRows:
    """One prompt, ready to be read.

    Args:
        batch: of this prompt alone, where the model computes.
        segment: that its answer will have.
        embeddings: its picture's (Q, D), or None.
        slots: of the pool, one for each of its L tokens.
    """

    batch: PackedBatch
    segment: int
    embeddings: Tensor | None
    slots: Sequence[int]


@dataclass(frozen=True)
class ReadPrompt:
    """What its answer needs of a prompt beside the keys and values in the pool."""

    to_prompt: Tensor  # (H, L) bias of the answer's tokens towards the prompt's
    extension_rows: Tensor | None  # (E, D) of the logit columns beyond the vocabulary


Slices = Generator[None, None, list[ReadPrompt]]  # one for each layer


class PromptReading(Protocol):
    """`prompt_slices`, or what has other ranks do the same beside it."""

    def __call__(self, model: ChatModel, prompts: Sequence[PromptRows], pool: KVPool) -> Slices: ...


def picture_slices(model: ChatModel, pixels: bytes) -> Generator[None, None, Tensor]:
    """Image embeddings (Q, D) of RGB pixels of the model's side, a layer of the tower at a time."""
    side, weights = model.config.image_size_px, model.query_tokens
    picture = torch.frombuffer(bytearray(pixels), dtype=torch.uint8).view(1, side, side, 3).to(weights.device)
    states = yield from model.vision_encoder.in_slices(normalise(picture).to(weights.dtype), model.query_tokens)
    embeddings: Tensor = model.projector(states)[0]
    return embeddings


def prompt_slices(model: ChatModel, prompts: Sequence[PromptRows], pool: KVPool) -> Slices:
    """Writes the prompts' keys and values into their slots, a layer at a time. None depends on the others."""
    llm = model.llm
    groups = _alike(prompts)
    batches = [stacked([one.batch for one in group]) for group in groups]
    embedded = [
        model.embed_prompt(batch, [one.embeddings for one in group]).flatten(0, 1)
        for group, batch in zip(groups, batches, strict=True)
    ]
    hidden = torch.cat(embedded)[None]  # (1, M, D)
    biases = [whole_prompt_bias(llm.position_bias, batch) for batch in batches]
    slots = torch.tensor(
        [slot for group in groups for one in group for slot in one.slots], device=hidden.device
    )  # (M,)
    last = len(llm.blocks) - 1
    for layer in range(len(llm.blocks)):
        block = llm.blocks[layer]  # asked for in its own slice: it may not stay where it is
        normed = block.attention_norm(hidden)
        queries, keys, values = block.attention.project(normed, normed)  # (1, H, M, Dh)
        pool.keys[layer].transpose(0, 1).index_copy_(1, slots, keys[0])
        pool.values[layer].transpose(0, 1).index_copy_(1, slots, values[0])
        if layer < last:  # what the last one makes of the prompts is read by nobody
            mixed = _mixed(block.attention, queries, keys, values, batches, biases)
            hidden = block.finish(hidden, block.attention.merge(mixed))
        yield
    read: dict[int, Tensor] = {}
    for group, batch in zip(groups, batches, strict=True):
        segments = torch.tensor([one.segment for one in group], device=hidden.device)
        to_prompt = segment_bias_to_whole_prompt(llm.position_bias, batch, segments)  # (P, H, L)
        read |= {id(one): own for one, own in zip(group, to_prompt, strict=True)}
    return [ReadPrompt(read[id(one)], _extension_rows(llm, one.batch)) for one in prompts]


def _alike(prompts: Sequence[PromptRows]) -> list[list[PromptRows]]:
    """Those of one length and of as many segments together: attention takes them in one call."""
    groups: dict[tuple[int, int], list[PromptRows]] = {}
    for one in prompts:
        groups.setdefault((len(one.slots), one.batch.segment_rel.shape[1]), []).append(one)
    return list(groups.values())


def _mixed(
    attention: Attention,
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    batches: Sequence[PackedBatch],
    biases: Sequence[AttentionBias],
) -> Tensor:
    """States (1, H, M, Dh) of all prompts, batch after batch -> mixed values (1, H, M, Dh), a call for each batch."""
    sizes = [batch.ids.numel() for batch in batches]
    parts = zip(*(states[0].split(sizes, dim=1) for states in (queries, keys, values)), batches, biases, strict=True)
    mixed = []
    for *states, batch, bias in parts:
        asking, own_keys, own_values = (of_all.unflatten(1, batch.ids.shape).transpose(0, 1) for of_all in states)
        mixed.append(attention.mix(asking, own_keys, own_values, bias).transpose(1, 2).flatten(0, 1))  # (P * L, H, Dh)
    return torch.cat(mixed).transpose(0, 1)[None]


def _extension_rows(llm: CPMBee, batch: PackedBatch) -> Tensor | None:
    return llm.extension_rows(batch.extension_ids, batch.extension_subs) if len(batch.extension_ids) else None
