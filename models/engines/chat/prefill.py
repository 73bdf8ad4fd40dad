"""Reading pictures and prompts, in slices short enough that running answers wait for none of them.

A prompt's tokens see one another in both directions, so it is read layer by layer, never token by token; several
prompts are read together, their tokens behind one another as rows of one product. Q image tokens, L tokens of a
prompt, M of all that are read together, D width, H heads, Dh head width.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.engines.chat.kv_pool import KVPool
from models.networks.chat.model import ChatModel
from models.networks.cpm_bee.packing import PackedBatch
from models.networks.cpm_bee.position_bias import prompt_bias
from models.networks.vision.preprocess import normalise

Slices = Generator[None, None, None]  # one for each layer


@dataclass(frozen=True)
class PromptRows:
    """One prompt, ready to be read.

    Args:
        batch: of this prompt alone, where the model computes.
        embeddings: its picture's (Q, D), or None.
        slots: of the pool, one for each of its L tokens.
    """

    batch: PackedBatch
    embeddings: Tensor | None
    slots: Sequence[int]


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
    for layer, block in enumerate(llm.blocks):
        normed = block.attention_norm(hidden)
        queries, keys, values = block.attention.project(normed, normed)  # (1, H, M, Dh)
        pool.keys[layer][slots] = keys[0].transpose(0, 1)
        pool.values[layer][slots] = values[0].transpose(0, 1)
        if layer < last:  # what the last one makes of the prompts is read by nobody
            parts = zip(*(states.split(lengths, dim=2) for states in (queries, keys, values)), biases, strict=True)
            mixed = [block.attention.mix(*part) for part in parts]
            hidden = block.finish(hidden, block.attention.merge(torch.cat(mixed, dim=2)))
        yield
