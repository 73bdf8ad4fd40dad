"""CPM-Bee: bidirectional over context, causal over answers.

B batch, L length, D width, V vocabulary, E extension columns, K beams.
"""

import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.cpm_bee.answer_bias import DecodeStep
from models.networks.cpm_bee.config import CPMBeeConfig
from models.networks.cpm_bee.kv_cache import KVCache
from models.networks.cpm_bee.layers import Block, RMSNorm, divided, rotate
from models.networks.cpm_bee.packing import IGNORED_TARGET, PackedBatch
from models.networks.cpm_bee.position_bias import AttentionBias, PositionBias, full_bias, prompt_bias


class CPMBee(nn.Module):
    """The language model of SPEC §4, with the published, unfolded weights unless `fold_scalings` was called on it."""

    def __init__(self, config: CPMBeeConfig) -> None:
        super().__init__()
        self.config = config
        # Not drawn in place: on the meta device that takes seconds of imports.
        self.embedding = nn.Embedding(
            config.vocab_size, config.dim_model, _weight=torch.randn(config.vocab_size, config.dim_model)
        )
        self.position_bias = PositionBias(config)
        self.layers = nn.ModuleList(Block(config, index) for index in range(config.num_layers))
        self.output_norm = RMSNorm(config.dim_model, config.eps)
        self.embedding_divisor: float | None = math.sqrt(config.dim_model)
        self.num_ranks = 1  # that share the large weights (sharding.py)
        self.vocabulary_projection: nn.Module | None = None  # the embedding as engines lay it out; it must equal it
        for module in self.modules():
            if isinstance(module, nn.Linear) and not module.weight.is_meta:
                nn.init.normal_(module.weight)  # unit variance, which the divisors expect

    @property
    def blocks(self) -> Sequence[Block]:
        """The layers, by their type."""
        return cast(Sequence[Block], self.layers)

    def embed(self, ids: Tensor, subs: Tensor) -> Tensor:
        """Ids and sub indices (...) -> (..., D), turned by the sub index."""
        rows: Tensor = divided(self.embedding(ids), self.embedding_divisor)
        if subs.device.type == "cpu" and not subs.any():  # as almost always; another device would have to be waited for
            return rows
        is_half = self.config.half and rows.dtype == torch.float16
        return rotate(rows, subs, torch.float16 if is_half else torch.float32)

    def extension_rows(self, extension_ids: Tensor, extension_subs: Tensor) -> Tensor:
        """The batch's extension pairs (E,) as rows (E, D) for `logits`."""
        return self.embed(extension_ids, extension_subs)

    def logits(self, hidden: Tensor, extension_rows: Tensor | None) -> Tensor:
        """Hidden states (..., D) after the output norm -> (..., V + E)."""
        hidden_in_rows = divided(hidden, self.embedding_divisor)
        if self.vocabulary_projection is None:
            vocabulary = F.linear(hidden_in_rows, self.embedding.weight)
        else:
            vocabulary = self.vocabulary_projection(hidden_in_rows)
        if extension_rows is None:
            return vocabulary
        # The rows carry the division already.
        return torch.cat([vocabulary, F.linear(hidden, extension_rows)], dim=-1)

    def loss(self, hidden: Tensor, targets: Tensor, extension_rows: Tensor | None) -> Tensor:
        """Mean cross entropy of hidden states (B, L, D) over targets (B, L) other than -100 (SPEC §9)."""
        is_target = targets != IGNORED_TARGET
        return F.cross_entropy(self.logits(hidden[is_target], extension_rows), targets[is_target])

    def forward(
        self,
        batch: PackedBatch,
        inputs_embeds: Tensor | None = None,
        layer_outputs: list[Tensor] | None = None,
        places: Tensor | None = None,
    ) -> Tensor:
        """Whole sequences at once -> hidden states after the output norm (B, L, D), padding rows included.

        Args:
            inputs_embeds: (B, L, D) with image embeddings in place of placeholders; else the batch's ids are embedded.
            layer_outputs: receives every block's output (B, L, D), before the output norm.
            places: (B, R) where states are wanted -> (B, R, D); the last block computes no others.
        """
        hidden = self.embed(batch.ids, batch.subs) if inputs_embeds is None else inputs_embeds
        return self._run(hidden, full_bias(self.position_bias, batch), None, layer_outputs, places)

    def prefill(
        self, batch: PackedBatch, inputs_embeds: Tensor, num_beams: int, max_new_tokens: int
    ) -> tuple[Tensor, KVCache]:
        """Reads prompts padded on the left, once for all their beams -> hidden states (B, L, D) and the cache."""
        with torch.no_grad():
            cache = KVCache(self.config, self.position_bias, batch, num_beams, max_new_tokens)
            return self._run(inputs_embeds, prompt_bias(self.position_bias, batch), cache), cache

    def decode_step(self, step: DecodeStep, cache: KVCache) -> Tensor:
        """Feeds one token of every beam -> its hidden states after the output norm (B, K, D)."""
        with torch.no_grad():
            bias = cache.begin_step(step)
            return self._run(self.embed(step.ids, step.subs), bias, cache)

    def _run(
        self,
        hidden: Tensor,
        bias: AttentionBias,
        cache: KVCache | None = None,
        layer_outputs: list[Tensor] | None = None,
        places: Tensor | None = None,
    ) -> Tensor:
        last = len(self.layers) - 1
        for number, block in enumerate(self.layers):
            hidden = block(hidden, bias, cache, places if number == last else None)
            if layer_outputs is not None:
                layer_outputs.append(hidden)
        normed: Tensor = self.output_norm(hidden)
        return normed
