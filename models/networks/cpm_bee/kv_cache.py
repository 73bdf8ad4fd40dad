"""Keys and values of a batch in decoding: the prompt once per sentence, the answer once per beam.

B batch, K beams, L prompt length, H heads, Dh head width, T answer tokens at most.
"""

import torch
from torch import Tensor

from models.networks.cpm_bee.answer_bias import AnswerBias, DecodeStep
from models.networks.cpm_bee.config import CPMBeeConfig
from models.networks.cpm_bee.packing import PackedBatch
from models.networks.cpm_bee.position_bias import AttentionBias, PositionBias


class KVCache:
    """Preallocated keys and values, (layers, B, H, L + T * K, Dh) each, written once and never moved.

    The prompt comes first, then K slots a step. All beams read one and the same stretch, and the bias hides the slots
    of rivals, so a change of parents moves no key. Published sizes in half precision take 0.75 MiB for each of the
    L + T * K tokens of a sentence: 1.33 GB for 150 prompt tokens and 513 steps of 3 beams (SPEC §12).
    """

    def __init__(
        self, config: CPMBeeConfig, position_bias: PositionBias, batch: PackedBatch, num_beams: int, max_new_tokens: int
    ) -> None:
        if num_beams < 1 or max_new_tokens < 1:
            raise ValueError(f"a cache for {num_beams} beams and {max_new_tokens} new tokens; both must be at least 1")
        rows, self.prompt_length = batch.ids.shape
        self.num_beams = num_beams
        self.max_new_tokens = max_new_tokens
        self.length = 0  # answer tokens fed so far, per beam
        slots = self.prompt_length + max_new_tokens * num_beams
        shape = (config.num_layers, rows, config.num_heads, slots, config.dim_head)
        self.keys = torch.empty(shape, dtype=position_bias.weight.dtype, device=batch.ids.device)
        self.values = torch.empty_like(self.keys)
        self.answer_bias = AnswerBias(position_bias, batch, num_beams, max_new_tokens)

    @property
    def size_bytes(self) -> int:
        """Bytes held by keys and values."""
        return self.keys.nbytes + self.values.nbytes

    def begin_step(self, step: DecodeStep) -> AttentionBias:
        """Makes room for one token of every beam -> what its attention scores get.

        Raises:
            ValueError: the step has another shape than the cache, or the cache is full.
        """
        expected = (self.keys.shape[1], self.num_beams)
        if step.ids.shape != expected:
            raise ValueError(
                f"a step of shape {tuple(step.ids.shape)}; this cache takes {expected}, sentences by beams"
            )
        if self.length == self.max_new_tokens:
            raise ValueError(f"the cache is full: it was made for {self.max_new_tokens} answer tokens")
        bias = self.answer_bias.extend(step, self.length)
        self.length += 1
        return bias

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keeps a layer's newest keys and values, (B, H, N, Dh): the prompt's, or those of the step that was begun.

        Returns:
            All up to now, (B, H, L + length * K, Dh) each.
        """
        end = self.prompt_length + self.length * self.num_beams
        start = end - keys.shape[2]
        self.keys[layer, :, :, start:end] = keys
        self.values[layer, :, :, start:end] = values
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def reorder(self, parents: Tensor) -> None:
        """Beam k of every sentence goes on from its beam `parents[:, k]`, int64 (B, K)."""
        self.answer_bias.reorder(parents)
