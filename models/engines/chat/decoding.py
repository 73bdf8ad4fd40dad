"""A batch of prompts, the model, and the search for their answers, advanced one token at a time."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from models.networks.chat.model import ChatModel
from models.networks.cpm_bee.answer_bias import DecodeStep
from models.networks.cpm_bee.packing import PackedBatch


class Search(Protocol):
    """What chooses tokens: BeamSearch or Sampling."""

    num_beams: int
    next: DecodeStep

    @property
    def is_finished(self) -> bool: ...

    @property
    def answers(self) -> list[list[int]]: ...

    def advance(self, logits: Tensor) -> Tensor | None: ...


class Decoding:
    """Runs the prefill when made, then one token for every beam at each `step`.

    Call under `torch.inference_mode()`. Nothing else holds the cache: dropping the object frees it.

    Args:
        batch: left padded prompts on the model's device.
        image_embeddings: each row's (Q, D), or None without an image.
        max_new_tokens: room in the cache; a search feeds at most as many tokens as it may choose.
    """

    def __init__(
        self,
        model: ChatModel,
        batch: PackedBatch,
        image_embeddings: Sequence[Tensor | None],
        search: Search,
        max_new_tokens: int,
    ) -> None:
        self.search = search
        self._llm = model.llm
        self._extension_rows = None
        if len(batch.extension_ids):
            self._extension_rows = model.llm.extension_rows(batch.extension_ids, batch.extension_subs)  # (E, D)
        embeds = model.embed_prompt(batch, image_embeddings)  # (B, L, D)
        _, self._cache = model.llm.prefill(batch, embeds, search.num_beams, max_new_tokens)

    def step(self) -> None:
        """Feeds the search's next tokens and lets it choose. Raises NonFiniteLogits."""
        hidden = self._llm.decode_step(self.search.next, self._cache)  # (B, K, D)
        parents = self.search.advance(self._llm.logits(hidden, self._extension_rows))
        if parents is not None:
            self._cache.reorder(parents)
