"""Reading a request's picture and prompt, in slices short enough that running answers wait for none of them.

The prompt's tokens see one another in both directions, so it is read layer by layer, never token by token. Q image
tokens, L prompt tokens, D width.
"""

from collections.abc import Generator

import torch
from torch import Tensor

from models.engines.chat.kv_pool import KVPool
from models.networks.chat.model import ChatModel
from models.networks.cpm_bee.packing import PackedBatch
from models.networks.cpm_bee.position_bias import prompt_bias
from models.networks.vision.preprocess import normalise

Slices = Generator[None, None, None]  # one for each layer


def picture_slices(model: ChatModel, pixels: bytes) -> Generator[None, None, Tensor]:
    """Image embeddings (Q, D) of RGB pixels of the model's side, a layer of the tower at a time."""
    side, weights = model.config.image_size_px, model.query_tokens
    picture = torch.frombuffer(bytearray(pixels), dtype=torch.uint8).view(1, side, side, 3).to(weights.device)
    states = yield from model.vision_encoder.in_slices(normalise(picture).to(weights.dtype), model.query_tokens)
    embeddings: Tensor = model.projector(states)[0]
    return embeddings


def prompt_slices(
    model: ChatModel, batch: PackedBatch, embeddings: Tensor | None, pool: KVPool, runs: list[tuple[int, int]]
) -> Slices:
    """Writes a prompt's keys and values into its slots, a layer at a time.

    Args:
        batch: of one prompt.
        runs: (first, end) of its L slots.
    """
    llm = model.llm
    hidden = model.embed_prompt(batch, [embeddings])  # (1, L, D)
    bias = prompt_bias(llm.position_bias, batch)
    last = len(llm.blocks) - 1
    for layer, block in enumerate(llm.blocks):
        normed = block.attention_norm(hidden)
        queries, keys, values = block.attention.project(normed, normed)
        _write(pool.keys[layer], keys[0], runs)
        _write(pool.values[layer], values[0], runs)
        if layer < last:  # what the last one makes of the prompt is read by nobody
            hidden = block.finish(hidden, block.attention.attend(queries, keys, values, bias))
        yield


def _write(pool: Tensor, states: Tensor, runs: list[tuple[int, int]]) -> None:
    """States (H, L, Dh) into the runs' slots."""
    start = 0
    for first, end in runs:
        pool[first:end] = states[:, start : start + end - first].transpose(0, 1)
        start += end - first
