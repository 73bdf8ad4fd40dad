"""The Tower task: what is seen in a picture, read off the query tokens by linear heads.

Chat's vision tower and its queries learn to see here, before they learn to talk: a picture costs a sixth of a
conversation about it. The release began with a trained tower, BEiT-3's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.datasets.examples import UNLABELLED, LabelledPictureSource
from models.networks.chat.model import ChatModel
from models.networks.vision.preprocess import normalise
from models.training.chat.export import export_chat
from models.training.chat.task import choose_trained
from models.training.muon import layer_weights
from models.training.task import Position, Task


@dataclass(frozen=True)
class TowerBatch:
    pixels: Tensor  # (B, S, S, 3) uint8
    labels: Tensor  # (B, number of heads) int64, UNLABELLED where there is nothing to see

    def to(self, device: torch.device) -> "TowerBatch":
        return TowerBatch(self.pixels.to(device), self.labels.to(device))


class TowerReader(nn.Module):
    """A Chat model with a linear head for each thing that may be seen.

    Args:
        num_classes: of each head.
    """

    def __init__(self, chat: ChatModel, num_classes: Sequence[int]) -> None:
        super().__init__()
        self.chat = chat
        width = chat.config.vision.width * chat.config.num_query_tokens
        self.heads = nn.ModuleList(nn.Linear(width, count) for count in num_classes)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Pictures (B, S, S, 3) -> each head's logits (B, number of its classes)."""
        states = self.chat.vision_encoder(normalise(pixels), self.chat.query_tokens).flatten(1)  # (B, Q * W)
        return [head(states) for head in self.heads]


class TowerTask(Task[TowerBatch]):
    """Trains the tower and the queries of a ChatModel in float32; the rest goes into the export as it is.

    Args:
        vocabulary: the tokenizer's file, which goes with the outcome.
        validation: held-out pictures; None for none.
    """

    model: TowerReader

    def __init__(
        self,
        chat: ChatModel,
        vocabulary: Path,
        source: LabelledPictureSource,
        lr: float,
        export_dtype: torch.dtype = torch.float32,
        validation: LabelledPictureSource | None = None,
        validation_batch_size: int = 64,
    ) -> None:
        self.source, self.validation = source, validation
        self._vocabulary, self._lr, self._export_dtype = vocabulary, lr, export_dtype
        self._validation_batch_size = validation_batch_size
        choose_trained(chat, tune_vision=True, tune_llm=False, tune_patches=True)
        chat.projector.requires_grad_(False)
        self.model = TowerReader(chat, [len(classes) for classes in source.classes.values()])

    def parameter_groups(self) -> list[dict[str, Any]]:
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        return [{"name": "tower", "params": trained, "lr": self._lr}]

    def hidden_weights(self) -> list[tuple[nn.Parameter, float]]:
        return [(weight, 1.0) for weight in layer_weights(self.model.chat.vision_encoder.layers)]

    def num_examples(self) -> int:
        return len(self.source)

    def collate(self, positions: Sequence[Position]) -> TowerBatch:
        return _collate(self.source, [(position.index, position.epoch) for position in positions])

    def loss(self, batch: TowerBatch) -> tuple[Tensor, Tensor]:
        logits = self.model(batch.pixels)
        losses = [
            F.cross_entropy(head, labels, ignore_index=UNLABELLED, reduction="sum")
            for head, labels in zip(logits, batch.labels.unbind(1), strict=True)
        ]
        return torch.stack(losses).sum(), torch.tensor(len(batch.labels), device=batch.labels.device)

    def validate(self) -> dict[str, float]:
        """Each head's share of right answers, by its name."""
        if self.validation is None:
            return {}
        hits = torch.zeros(len(self.source.classes))
        seen = torch.zeros(len(self.source.classes))
        for start in range(0, len(self.validation), self._validation_batch_size):
            stop = min(start + self._validation_batch_size, len(self.validation))
            batch = _collate(self.validation, [(index, 0) for index in range(start, stop)])
            batch = batch.to(self.model.chat.query_tokens.device)
            answers = torch.stack([head.argmax(1) for head in self.model(batch.pixels)], dim=1)
            hits += (answers == batch.labels).sum(0).cpu()
            seen += (batch.labels != UNLABELLED).sum(0).cpu()
        return dict(zip(self.source.classes, (hits / seen.clamp(min=1)).tolist(), strict=True))

    def export(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """A Chat checkpoint; the heads stay behind."""
        prefix = "chat."
        chat = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
        export_chat(folder, self.model.chat.config, chat, self._vocabulary, self._export_dtype, False)


def _collate(source: LabelledPictureSource, places: Sequence[tuple[int, int]]) -> TowerBatch:
    pictures = [source.labelled_picture(index, epoch) for index, epoch in places]
    pixels = torch.stack([torch.from_numpy(picture.pixels) for picture in pictures])
    return TowerBatch(pixels, torch.tensor([picture.labels for picture in pictures]))
