"""Reading pictures and prompts, in slices short enough that running answers wait for none of them.

A prompt's tokens see one another in both directions, so it is read layer by layer, never token by token; several
prompts are read together, their tokens behind one another as rows of one product. Q image tokens, L tokens of a
prompt, M of all that are read together, D width, H heads, Dh head width.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from models.engines.chat.kv_pool import KVPool
from models.networks.chat.model import ChatModel
from models.networks.cpm_bee.answer_bias import bias_to_prompt
from models.networks.cpm_bee.packing import PackedBatch
from models.networks.cpm_bee.position_bias import prompt_bias
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
    hidden = torch.cat([model.embed_prompt(one.batch, [one.embeddings]) for one in prompts], dim=1)  # (1, M, D)
    biases = [prompt_bias(llm.position_bias, one.batch) for one in prompts]
    lengths = [len(one.slots) for one in prompts]
    slots = torch.tensor([slot for one in prompts for slot in one.slots], device=hidden.device)  # (M,)
    last = len(llm.blocks) - 1
    for layer in range(len(llm.blocks)):
        block = llm.blocks[layer]  # asked for in its own slice: it may not stay where it is
        normed = block.attention_norm(hidden)
        queries, keys, values = block.attention.project(normed, normed)  # (1, H, M, Dh)
        pool.keys[layer][slots] = keys[0].transpose(0, 1)
        pool.values[layer][slots] = values[0].transpose(0, 1)
        if layer < last:  # what the last one makes of the prompts is read by nobody
            parts = zip(*(states.split(lengths, dim=2) for states in (queries, keys, values)), biases, strict=True)
            mixed = [block.attention.mix(*part) for part in parts]
            hidden = block.finish(hidden, block.attention.merge(torch.cat(mixed, dim=2)))
        yield
    return [
        ReadPrompt(
            bias_to_prompt(llm.position_bias, one.batch)[0, one.segment],
            llm.extension_rows(one.batch.extension_ids, one.batch.extension_subs)
            if len(one.batch.extension_ids)
            else None,
        )
        for one in prompts
    ]
