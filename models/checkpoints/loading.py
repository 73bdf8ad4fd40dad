"""Checkpoints: opened, held against their sizes, and loaded without a second copy in memory.

A checkpoint is one published file (`.bin`, `.pt`), one `.safetensors` file, or a converted folder (conversion.py); Chat
or Paint is told by its keys. What lies beside it is used: `config.json` of a converted folder, or `chat_config.json` /
`paint_config.json`; `vocab.txt`; for Paint `unet/`, `vae/` and `scheduler/`. Without a configuration sizes are read
from the shapes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from models.checkpoints.companion_files import (
    CONFIG_FORMAT,
    FINGERPRINT_FILE,
    config_beside,
    find_vae,
    load_tokenizer,
    load_vae,
    read_config,
    read_scheduler_config,
    read_unet_config,
)
from models.checkpoints.config_from_shapes import Shapes, chat_config, llm_config
from models.checkpoints.published_names import NAMES, Kind, kind_of, listed, published_name, sort_names
from models.checkpoints.quantization.stored import (
    CONFIG_FIELD,
    StoredWeight,
    chosen_quantization,
    stored_quantization,
    stored_weights,
)
from models.checkpoints.tensor_files import CheckpointError, MappedTensors, map_tensors, tensor_file
from models.checkpoints.training_text import TrainingText
from models.checkpoints.weights import Share, fill, skeleton, whole
from models.jobs import Quantization
from models.networks.chat.config import ChatConfig
from models.networks.cpm_bee.config import CPMBeeConfig
from models.networks.cpm_bee.model import CPMBee
from models.networks.cpm_bee.sharding import Part, Shard, narrow
from models.networks.cpm_bee.tokenizer import Tokenizer
from models.networks.paint.config import PaintConfig

if TYPE_CHECKING:  # diffusers takes seconds to import, and a chat worker needs none of it
    from diffusers import AutoencoderKL

    from models.networks.chat.model import ChatModel
    from models.networks.paint.model import PaintModel

_LLM = "llm."  # begins the names of the language model's parameters


@dataclass
class Checkpoint:
    """An opened checkpoint whose keys and shapes fit its configuration; its tensors are mapped, not read."""

    file: Path
    kind: Kind
    config: ChatConfig | PaintConfig  # of the model
    stored_config: ChatConfig | PaintConfig  # of the tensors: another picture side where one is wanted
    tensors: MappedTensors  # by published name, unused ones included
    parameters: dict[str, str]  # published name -> ours, of what the model has
    quantized: dict[str, StoredWeight]  # by published name, of weights that are stored so
    quantization: Quantization
    untrained: bool
    training_text: TrainingText
    recorded_fingerprint: str | None

    @property
    def folder(self) -> Path:
        """Where what belongs to the checkpoint may lie."""
        return self.file.parent

    def tokenizer(self, vocabulary: Path | None = None) -> Tokenizer:
        """The tokenizer, held against the embedding; without `vocabulary` from vocab.txt beside the checkpoint."""
        return load_tokenizer(self.file, self.config.llm.vocab_size, vocabulary)

    def build(
        self,
        device: torch.device,
        dtypes: Callable[[str], torch.dtype | None],
        quantization: Quantization = "off",
        is_to_change: bool = False,
        shard: Shard | None = None,
    ) -> tuple[nn.Module, str]:
        """The model with its weights, and their fingerprint; the checkpoint is used up by it.

        Args:
            dtypes: our name -> dtype wanted, or None for the stored one.
            quantization: of its linear layers; `off` for one as it is stored.
            is_to_change: see `fill`.
            shard: of the language model; what lies beside it has weights in rank 0 alone.

        Raises:
            CheckpointError: quantized in another way, quantized and to be shared, or changed since it was converted.
        """
        self.quantization = chosen_quantization(self.quantization, quantization, self.file)
        model = skeleton(self.config)
        share: Share = whole
        if shard is not None:
            if self.quantization != "off":
                raise CheckpointError(f"{self.file}: a quantized model cannot be shared by several devices")
            narrow(cast(CPMBee, model.llm), shard)
            share = partial(_part, shard)
        fingerprint = fill(
            model, self.tensors, self.parameters, device, dtypes, quantization, self.quantized, is_to_change, share
        )
        if self.recorded_fingerprint not in (None, fingerprint):
            raise CheckpointError(f"{self.folder}: its tensors do not match its fingerprint; convert it again")
        return model, fingerprint


@dataclass(frozen=True)
class LoadedChat:
    """A Chat model ready to run: eval mode, no gradients, published (unfolded) weights."""

    model: "ChatModel"
    tokenizer: Tokenizer
    config: ChatConfig
    fingerprint: str
    untrained: bool
    training_text: TrainingText = TrainingText()
    quantization: Quantization = "off"


@dataclass(frozen=True)
class LoadedPaint:
    """A Paint model ready to run, as `LoadedChat`, with its VAE and the noise schedule's settings."""

    model: "PaintModel"
    vae: "AutoencoderKL"
    scheduler_config: dict[str, Any]
    tokenizer: Tokenizer
    config: PaintConfig
    fingerprint: str
    untrained: bool
    training_text: TrainingText = TrainingText()
    quantization: Quantization = "off"


def load_chat(
    path: Path,
    vocabulary: Path | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    config: Path | None = None,
    image_size_px: int | None = None,
    quantization: Quantization = "off",
    is_to_change: bool = False,
    shard: Shard | None = None,
) -> LoadedChat:
    """Load a Chat checkpoint onto a device.

    Args:
        vocabulary: vocab.txt; without it the one beside the checkpoint.
        dtype: of all weights; None keeps each as it is stored.
        config: a JSON file of sizes; without it the one beside the checkpoint, else sizes come from the shapes.
        image_size_px: another picture side than the checkpoint's; its position table is resized (SPEC §9).
        quantization: of the language model's linear layers; `off` for a checkpoint as it is stored.
        is_to_change: the language model's weights get memory of their own, for what will fold or pack them.
        shard: this rank's of a language model over several devices; the rest of the model is rank 0's alone.

    Raises:
        CheckpointError: anything wrong with the files.
    """
    checkpoint = open_checkpoint(path, "chat", config, image_size_px)
    tokenizer = checkpoint.tokenizer(vocabulary)
    model, fingerprint = checkpoint.build(torch.device(device), lambda _: dtype, quantization, is_to_change, shard)
    return LoadedChat(
        model=cast("ChatModel", model),
        tokenizer=tokenizer,
        config=cast(ChatConfig, checkpoint.config),
        fingerprint=fingerprint,
        untrained=checkpoint.untrained,
        training_text=checkpoint.training_text,
        quantization=checkpoint.quantization,
    )


def load_paint(
    path: Path,
    vocabulary: Path | None = None,
    vae: Path | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    unet_dtype: torch.dtype | None = None,
    config: Path | None = None,
    quantization: Quantization = "off",
    is_to_change: bool = False,
) -> LoadedPaint:
    """Load a Paint checkpoint, its VAE and its noise schedule.

    Args:
        vae: a folder in diffusers' layout, or one with such a folder `vae`; without it `vae` beside the checkpoint.
        dtype: of the language model, and of everything else too unless `unet_dtype` says otherwise; None keeps what
            is stored (as published: float16, the rest float32).
        unet_dtype: of prompt adapter and UNet. The VAE is float32 always: half precision shows in pictures.
        vocabulary, config, quantization, is_to_change: as for `load_chat`.

    Raises:
        CheckpointError: anything wrong with the files.
    """
    checkpoint = open_checkpoint(path, "paint", config)
    tokenizer = checkpoint.tokenizer(vocabulary)
    unet_dtype = unet_dtype or dtype
    vae_folder = find_vae(checkpoint.folder, vae)
    model, fingerprint = checkpoint.build(
        torch.device(device),
        lambda ours: dtype if ours.startswith("llm.") else unet_dtype,
        quantization,
        is_to_change,
    )
    return LoadedPaint(
        model=cast("PaintModel", model),
        vae=load_vae(vae_folder, torch.device(device)),
        scheduler_config=read_scheduler_config(checkpoint.folder, vae_folder.parent),
        tokenizer=tokenizer,
        config=cast(PaintConfig, checkpoint.config),
        fingerprint=fingerprint,
        untrained=checkpoint.untrained,
        training_text=checkpoint.training_text,
        quantization=checkpoint.quantization,
    )


def _part(shard: Shard, ours: str, shape: tuple[int, ...]) -> Part | None:
    """A rank's part of a parameter; None: nothing of it."""
    if ours.startswith(_LLM):
        return shard.part(ours.removeprefix(_LLM), shape)
    return () if shard.rank == 0 else None


def open_checkpoint(
    path: Path, kind: Kind | None = None, config: Path | None = None, image_size_px: int | None = None
) -> Checkpoint:
    """Map a checkpoint and hold its keys and shapes against its sizes.

    Args:
        kind: what it must be; None takes either.
        config, image_size_px: as for `load_chat`.

    Raises:
        CheckpointError: no checkpoint, of the wrong kind, or with missing, extra or mis-shaped keys.
    """
    file = tensor_file(path)
    tensors = map_tensors(file)
    found = kind_of(tensors, file)
    if kind not in (None, found):
        raise CheckpointError(f"{file}: a {found.capitalize()} checkpoint, but a {kind.capitalize()} one is wanted")
    fields = read_config(config or config_beside(file.parent, found))
    quantized = stored_weights(tensors, file)
    parts = {name for weight in quantized.values() for name in weight.names}
    parameters, unknown = sort_names(found, [*(name for name in tensors if name not in parts), *quantized])
    shapes = {
        ours: quantized[published].shape if published in quantized else tuple(tensors[published].shape)
        for published, ours in parameters.items()
    }
    absent = [name for name, ours in NAMES[found].items() if "{i}" not in name and ours not in shapes]
    if absent and not fields:
        raise CheckpointError(f"{file}: missing keys: {listed(absent)}")
    try:
        stored = _stored_config(found, fields, shapes, file.parent)
        wanted = _wanted_config(stored, image_size_px or fields.get("image_size"))
        expected = {ours: tuple(parameter.shape) for ours, parameter in skeleton(stored).state_dict().items()}
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{file}: no usable sizes: {error}") from error
    try:
        training_text = TrainingText.from_published(fields.get("training_text", {}))
    except (AttributeError, ValueError) as error:
        raise CheckpointError(f"{file}: its configuration's training_text is of no use: {error}") from error
    _compare(found, expected, shapes, unknown, file)
    is_converted = fields.get("format") == CONFIG_FORMAT
    recorded = file.parent / FINGERPRINT_FILE
    return Checkpoint(
        file=file,
        kind=found,
        config=wanted,
        stored_config=stored,
        tensors=tensors,
        parameters=parameters,
        quantized=quantized,
        quantization=stored_quantization(quantized.values(), fields.get(CONFIG_FIELD), file),
        untrained=is_converted and bool(fields.get("untrained")),
        training_text=training_text,
        recorded_fingerprint=recorded.read_text().strip() if is_converted and recorded.is_file() else None,
    )


def _stored_config(kind: Kind, fields: Mapping[str, Any], shapes: Shapes, folder: Path) -> ChatConfig | PaintConfig:
    """The sizes that the tensors are stored in."""
    if kind == "chat":
        return ChatConfig.from_published(fields) if fields else chat_config(shapes)
    llm = CPMBeeConfig.from_published(fields["llm"]) if fields else llm_config(shapes)
    return PaintConfig(llm=llm, unet=read_unet_config(folder))


def _wanted_config(stored: ChatConfig | PaintConfig, image_size_px: int | None) -> ChatConfig | PaintConfig:
    """The sizes of the model: those of the tensors, for pictures of another side where that is wanted."""
    if image_size_px is None or not isinstance(stored, ChatConfig):
        return stored
    return stored.with_image_size(image_size_px)


def _compare(kind: Kind, expected: Shapes, shapes: Shapes, unknown: list[str], file: Path) -> None:
    """Raises CheckpointError that names every missing, extra and mis-shaped key, by its published name."""
    faults = {
        "missing keys": sorted(published_name(kind, ours) for ours in expected.keys() - shapes.keys()),
        "extra keys": sorted(unknown + [published_name(kind, ours) for ours in shapes.keys() - expected.keys()]),
        "wrong shapes": [
            f"{published_name(kind, ours)} is {_shape(shapes[ours])}, expected {_shape(expected[ours])}"
            for ours in sorted(shapes.keys() & expected.keys())
            if shapes[ours] != expected[ours]
        ],
    }
    if any(faults.values()):
        raise CheckpointError(
            f"{file}: " + "; ".join(f"{what}: {listed(keys)}" for what, keys in faults.items() if keys)
        )


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a single number"
