"""Layers of a rank's share of CPM-Bee that meet those of the other ranks. R rows, D width, V vocabulary."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.engines.chat.parallel.group import Group
from models.networks.cpm_bee.model import CPMBee


class SummedLinear(nn.Module):
    """A linear layer of which every rank has some inputs: (..., in of the rank) -> (..., out), the same in all ranks.

    Args:
        linear: the rank's part, however its weight is laid out, without bias.
    """

    def __init__(self, linear: nn.Module, group: Group) -> None:
        super().__init__()
        self.linear = linear
        self._group = group

    def forward(self, x: Tensor) -> Tensor:
        return self._group.sum(self.linear(x))


class SharedEmbedding(nn.Embedding):
    """Some tokens' rows, those of rank 0 first: ids (...) -> (..., D), the same in all ranks."""

    def __init__(self, weight: Tensor, vocab_size: int, group: Group) -> None:
        super().__init__(weight.shape[0], weight.shape[1], _weight=weight.detach(), _freeze=True)
        self._first = group.shard.span(vocab_size).start
        self._group = group

    def forward(self, ids: Tensor) -> Tensor:
        own = ids - self._first
        is_elsewhere = (own < 0) | (own >= len(self.weight))
        rows = F.embedding(own.masked_fill(is_elsewhere, 0), self.weight)
        return self._group.sum(rows.masked_fill(is_elsewhere[..., None], 0))


class SharedVocabulary(nn.Module):
    """The projection onto all tokens: (R, D) -> logits (R, V) in rank 0, those of the rank's own tokens in others.

    Args:
        linear: onto the rank's own tokens.
    """

    def __init__(self, linear: nn.Module, vocab_size: int, group: Group) -> None:
        super().__init__()
        self.linear = linear
        self._vocab_size = vocab_size
        self._group = group

    def forward(self, hidden: Tensor) -> Tensor:
        own: Tensor = self.linear(hidden)
        missing = self._group.shard.width(self._vocab_size) - own.shape[-1]  # the last rank may have fewer
        parts = self._group.gather(F.pad(own, (0, missing)))
        return torch.cat(parts, dim=-1)[..., : self._vocab_size] if parts else own


def connect(llm: CPMBee, group: Group) -> None:
    """Makes the share of a folded model, packed or not, one of the group's.

    The embedding is split as well: 355 M parameters would be 0.7 GB of every GPU in half precision, and the projection
    onto them, all in one rank, 4 % of a step on one GPU and so 8 % on two, in which the others wait.
    """
    vocab_size = llm.config.vocab_size
    for block in llm.blocks:
        for module, name in ((block.attention, "output"), (block.feed_forward, "down")):
            setattr(module, name, SummedLinear(getattr(module, name), group))
    embedding = SharedEmbedding(llm.embedding.weight, vocab_size, group)
    projection = llm.vocabulary_projection or _projection(embedding)
    llm.embedding, llm.vocabulary_projection = embedding, SharedVocabulary(projection, vocab_size, group)


def _projection(embedding: nn.Embedding) -> nn.Linear:
    """By the embedding's own weight."""
    linear = nn.Linear(embedding.embedding_dim, embedding.num_embeddings, bias=False, device="meta")
    linear.weight = embedding.weight
    return linear
