"""The Chat task: conversations about pictures, the answers' tokens as targets (SPEC §9)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.datasets.examples import Conversation, ConversationSource
from models.networks.chat.model import ChatModel
from models.networks.cpm_bee.packing import IGNORED_TARGET
from models.networks.cpm_bee.tokenizer import Tokenizer
from models.networks.vision.preprocess import normalise
from models.training.chat.batch import ChatBatch, RowGroup, collate_conversations
from models.training.chat.export import export_chat
from models.training.chat.validation import exact_matches
from models.training.lora import LoraSettings, add_adapters, is_adapter, merged
from models.training.muon import layer_weights
from models.training.recomputation import recompute
from models.training.task import Position, Task

# Of the image expert's last layer only keys and values reach the queries, and its final norm reaches nothing.
_UNREACHED_IN_LAST_LAYER = (
    "attention.query",
    "attention.output_norm",
    "attention.output",
    "feed_forward_norm",
    "feed_forward",
)
_LLM = "llm."
_EMBEDDING = "llm.embedding.weight"
_PATCHES = ("vision_encoder.patch_embedding.", "vision_encoder.class_token")
_QUERIES = ("vision_encoder.", "query_tokens")  # but for what is the image expert's
_IMAGE_EXPERT = ("image_expert.", "vision_encoder.image_")


@dataclass(frozen=True)
class ChatSettings:
    """What of a Chat model is trained, and how fast; the defaults are the release's recipe (SPEC §9)."""

    tune_vision: bool = True  # the image expert
    tune_queries: bool = True  # the query expert and the queries; the projector always is
    tune_llm: bool = True
    tune_patches: bool = False
    lr: float = 1e-5
    llm_lr: float = 1e-5
    embedding_lr: float = 1e-5  # of its table of tokens
    max_len: int = 512
    lora: LoraSettings | None = None  # then adapters alone are trained
    is_recomputed: bool = False  # gradient checkpointing
    validation_batch_size: int = 32
    export_dtype: torch.dtype = torch.float16
    writes_published: bool = False  # a `.pt` file with its configurations, beside the converted folder


class ChatTask(Task[ChatBatch]):
    """Trains a ChatModel in float32 on a source of conversations.

    Args:
        vocabulary: the tokenizer's file, which goes with the outcome.
        validation: held-out examples; None for none.
    """

    model: ChatModel

    def __init__(
        self,
        model: ChatModel,
        tokenizer: Tokenizer,
        vocabulary: Path,
        source: ConversationSource,
        settings: ChatSettings,
        validation: ConversationSource | None = None,
    ) -> None:
        self.model, self.source, self.validation, self.settings = model, source, validation, settings
        self._config = model.config
        self._tokenizer, self._vocabulary = tokenizer, vocabulary
        self._counts = {"skipped_rounds": 0, "skipped_conversations": 0}
        choose_trained(model, settings.tune_vision, settings.tune_llm, settings.tune_patches, settings.tune_queries)
        if settings.lora is not None:
            train_adapters(model, settings.lora)
        if settings.is_recomputed:
            recompute([*model.llm.layers, *model.vision_encoder.layers])

    def parameter_groups(self) -> list[dict[str, Any]]:
        groups: dict[str, list[nn.Parameter]] = {"vision": [], "llm": [], "embedding": []}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                group = "embedding" if name == _EMBEDDING else "llm" if name.startswith(_LLM) else "vision"
                groups[group].append(parameter)
        settings = self.settings
        rates = {"vision": settings.lr, "llm": settings.llm_lr, "embedding": settings.embedding_lr}
        return [{"name": name, "params": found, "lr": rates[name]} for name, found in groups.items() if found]

    def hidden_weights(self) -> list[tuple[nn.Parameter, float]]:
        seen = [(weight, 1.0) for weight in layer_weights(self.model.vision_encoder.layers)]
        return seen + [(weight, weight.shape[1] ** 0.5) for weight in layer_weights(self.model.llm.layers)]

    def num_examples(self) -> int:
        return len(self.source)

    def collate(self, positions: Sequence[Position]) -> ChatBatch:
        return self.collate_conversations(
            [self.source.conversation(position.index, position.epoch) for position in positions]
        )

    def collate_conversations(
        self, conversations: Sequence[Conversation], duplicates: bool = False, length: int = 0
    ) -> ChatBatch:
        """A batch of whole conversations; the arguments are those of `batch.collate_conversations`."""
        return collate_conversations(
            conversations,
            self._tokenizer,
            self._config.num_query_tokens,
            self._config.image_size_px,
            self.settings.max_len,
            duplicates,
            length,
        )

    def loss(self, batch: ChatBatch) -> tuple[Tensor, Tensor]:
        self._counts["skipped_rounds"] += batch.num_skipped_rounds
        self._counts["skipped_conversations"] += batch.num_skipped_conversations
        logits, targets = answer_logits(self.model, batch)
        loss = F.cross_entropy(logits.float(), targets, reduction="sum")
        return loss, torch.tensor(targets.numel(), device=loss.device)

    def counts(self) -> dict[str, float]:
        return dict(self._counts)

    def validate(self) -> dict[str, float]:
        if self.validation is None:
            return {}
        conversations = [self.validation.conversation(index, 0) for index in range(len(self.validation))]
        size = self.settings.validation_batch_size
        device = self.model.query_tokens.device
        sums = torch.zeros(2, device=device)
        for start in range(0, len(conversations), size):
            batch = self.collate_conversations(conversations[start : start + size]).to(device)
            logits, targets = answer_logits(self.model, batch)
            loss = F.cross_entropy(logits.float(), targets, reduction="sum")
            sums += torch.stack([loss, torch.tensor(float(targets.numel()), device=device)])
        total, count = sums.tolist()
        matches = exact_matches(self.model, self._tokenizer, conversations)
        return {"loss": total / max(count, 1), **matches}

    def export(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        export_chat(
            folder,
            self._config,
            weights if self.settings.lora is None else merged(weights, self.settings.lora),
            self._vocabulary,
            self.settings.export_dtype,
            self.settings.writes_published,
        )


def answer_logits(model: ChatModel, batch: ChatBatch) -> tuple[Tensor, Tensor]:
    """Logits (T, V + E) at the places of the T targets, and these targets (T,): id or extension column."""
    image_embeddings = model.image_embeddings(normalise(batch.pixels))  # (N, Q, D)
    hidden, targets = [], []
    for group in batch.groups:
        places, are_there = _target_places(group.targets)
        hidden.append(_read(model, group, image_embeddings, places)[are_there])
        targets.append(group.targets.gather(1, places)[are_there])
    rows = batch.groups[0].rows
    extension_rows = model.llm.extension_rows(rows.extension_ids, rows.extension_subs)
    return model.llm.logits(torch.cat(hidden), extension_rows), torch.cat(targets)


def _target_places(targets: Tensor) -> tuple[Tensor, Tensor]:
    """Targets (G, L) -> where they are (G, R), as many for every row as the one with most has, and which are (G, R)."""
    is_target = targets != IGNORED_TARGET
    counts = is_target.sum(1, keepdim=True)
    most = max(1, int(counts.max()))
    places = is_target.int().argsort(dim=1, descending=True, stable=True)[:, :most]
    return places, torch.arange(most, device=targets.device) < counts


def _read(model: ChatModel, group: RowGroup, image_embeddings: Tensor, places: Tensor) -> Tensor:
    """Hidden states (G, R, D) at places of a group's rows, whose placeholders show the pictures (N, Q, D)."""
    embeds = model.llm.embed(group.rows.ids, group.rows.subs)
    embeddings = image_embeddings[group.pictures].flatten(0, 1).to(embeds.dtype)  # (P * Q, D)
    embeds = embeds.flatten(0, 1).index_copy(0, group.places, embeddings).view_as(embeds)
    hidden: Tensor = model.llm(group.rows, embeds, places=places)
    return hidden


def choose_trained(
    model: ChatModel, tune_vision: bool, tune_llm: bool, tune_patches: bool, tune_queries: bool = True
) -> None:
    """Set `requires_grad` as the release does (SPEC §9), but for what the loss does not reach.

    That has gradient 0 in the release, where weight decay shrinks it, and nothing that the model says depends on it.
    """
    unreached = _unreached(model)
    for name, parameter in model.named_parameters():
        is_trained = True
        if name.startswith(_LLM):
            is_trained = tune_llm
        elif name.startswith(_PATCHES):
            is_trained = tune_patches
        elif any(part in name for part in _IMAGE_EXPERT):
            is_trained = tune_vision and not name.startswith(unreached)
        elif name.startswith(_QUERIES):
            is_trained = tune_queries
        parameter.requires_grad_(is_trained)


def train_adapters(model: ChatModel, settings: LoraSettings) -> None:
    """Put adapters in and train them, but for those that the loss does not reach; the table of tokens where wanted."""
    model.requires_grad_(False)
    add_adapters(model, settings)
    unreached = _unreached(model)
    for name, parameter in model.named_parameters():
        is_trained = is_adapter(name) and not name.startswith(unreached)
        parameter.requires_grad_(is_trained or (settings.tunes_embedding and name == _EMBEDDING))


def _unreached(model: ChatModel) -> tuple[str, ...]:
    """How the names of parameters begin on which no answer depends."""
    last = f"vision_encoder.layers.{model.config.vision.num_layers - 1}.image_expert."
    return (*(last + part for part in _UNREACHED_IN_LAST_LAYER), "vision_encoder.image_norm.")
