"""VisCPM-Chat's networks in one module: what a Chat checkpoint holds."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.networks.chat.config import ChatConfig
from models.networks.cpm_bee.model import CPMBee
from models.networks.cpm_bee.packing import PackedBatch
from models.networks.vision.encoder import VisionEncoder


class ChatModel(nn.Module):
    """CPM-Bee, the vision tower with its query tokens, and the projector between the two widths (SPEC §5)."""

    def __init__(self, config: ChatConfig) -> None:
        super().__init__()
        self.config = config
        width, dim_model = config.vision.width, config.llm.dim_model
        self.llm = CPMBee(config.llm)
        self.vision_encoder = VisionEncoder(config.vision)
        self.query_tokens = nn.Parameter(torch.empty(config.num_query_tokens, width))
        self.projector = nn.Sequential(nn.Linear(width, dim_model), nn.GELU(), nn.Linear(dim_model, dim_model))

    def image_embeddings(self, pixels: Tensor) -> Tensor:
        """Of normalised pixels: (B, 3, S, S) -> (B, Q, D)."""
        embeddings: Tensor = self.projector(self.vision_encoder(pixels, self.query_tokens))
        return embeddings

    def embed_prompt(self, batch: PackedBatch, image_embeddings: Sequence[Tensor | None]) -> Tensor:
        """Input embeddings with each row's own image in its own place (SPEC §4; §11.5 fixed): (B, L, D).

        Args:
            image_embeddings: a row's (Q, D), or None for a row whose placeholders stay as they are.
        """
        embeds = self.llm.embed(batch.ids, batch.subs)  # (B, L, D)
        for row, (embeddings, bounds) in enumerate(zip(image_embeddings, batch.image_bounds, strict=True)):
            if embeddings is None:
                continue
            for start, end in bounds:
                embeds[row, start:end] = embeddings.to(embeds.dtype)
        return embeds
