"""The Paint model and the VAE that a run begins with: a checkpoint's, or random weights of the sizes in a file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import nn

from models.checkpoints.companion_files import find_vae, find_vocabulary, load_vae, read_config
from models.checkpoints.loading import load_paint
from models.checkpoints.quantization.stored import refuse_quantized
from models.checkpoints.random_weights import random_paint
from models.checkpoints.tensor_files import CheckpointError, tensor_file
from models.networks.cpm_bee.config import CPMBeeConfig
from models.networks.cpm_bee.tokenizer import Tokenizer
from models.networks.paint.config import SD21_BASE_SCHEDULER, SD21_BASE_UNET, PaintConfig
from models.networks.paint.model import PaintModel
from models.training.initial_weights import POSITION_BIAS_STD, draw_alike

# What a UNet predicts, in diffusers' words: the noise, or (Salimans and Ho, 2022) sqrt(ā)·noise - sqrt(1 - ā)·latents
NOISE, VELOCITY = "epsilon", "v_prediction"


@dataclass(frozen=True)
class PaintStart:
    """What a Paint run needs of files."""

    model: PaintModel
    vae: AutoencoderKL
    vae_folder: Path
    scheduler_config: Mapping[str, Any]
    tokenizer: Tokenizer
    vocabulary: Path


def paint_from_checkpoint(path: Path, vocabulary: Path | None, vae: Path | None, llm_dtype: torch.dtype) -> PaintStart:
    """A checkpoint's model, adapter and UNet in float32. Raises CheckpointError."""
    file = tensor_file(path)
    loaded = load_paint(path, vocabulary, vae, dtype=llm_dtype, unet_dtype=torch.float32)
    refuse_quantized(loaded.quantization, path, "trained")
    return PaintStart(
        model=loaded.model,
        vae=loaded.vae,
        vae_folder=find_vae(file.parent, vae),
        scheduler_config=loaded.scheduler_config,
        tokenizer=loaded.tokenizer,
        vocabulary=find_vocabulary(file, vocabulary),
    )


def paint_from_sizes(
    config: Path, vocabulary: Path, vae: Path, seed: int, spellings: Sequence[Sequence[str]] = ()
) -> PaintStart:
    """Random weights for training from scratch, by a file `{"llm": {...}, "unet": {...}, "scheduler": {...}}`.

    `vocab_size` may be left out of it; what the UNet's part and the scheduler's leave out is Stable Diffusion
    2.1-base's, and the latents' channels are the VAE's.

    Args:
        spellings: see `draw_alike`.

    Raises:
        CheckpointError: the files cannot be used.
    """
    vae_folder = find_vae(vae, vae)
    loaded_vae = load_vae(vae_folder, torch.device("cpu"))
    fields = read_config(config)
    try:
        tokenizer = Tokenizer(vocabulary)
        llm = CPMBeeConfig.from_published({"vocab_size": tokenizer.vocab_size, **fields["llm"]})
        channels = loaded_vae.config.latent_channels
        unet = {**SD21_BASE_UNET, "in_channels": channels, "out_channels": channels, **fields["unet"]}
        model = random_paint(PaintConfig(llm, unet), "cpu", torch.float32, seed)
        scheduler = {**SD21_BASE_SCHEDULER, **fields.get("scheduler", {})}
        if scheduler["prediction_type"] not in (NOISE, VELOCITY):
            raise ValueError(f"prediction_type is {scheduler['prediction_type']}, allowed are {NOISE} and {VELOCITY}")
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{config} and {vocabulary}: no usable sizes and vocabulary: {error}") from error
    if llm.vocab_size != tokenizer.vocab_size:
        raise CheckpointError(f"{vocabulary}: {tokenizer.vocab_size} entries, {config} wants {llm.vocab_size}")
    prepare_for_training(model, seed)
    draw_alike(model.llm.embedding.weight, tokenizer, spellings, seed)
    return PaintStart(model, loaded_vae, vae_folder, scheduler, tokenizer, vocabulary)


def prepare_for_training(model: PaintModel, seed: int) -> None:
    """Make random weights fit to learn from: small position biases, and residual branches that begin with nothing."""
    generator = torch.Generator().manual_seed(seed)
    nn.init.normal_(model.llm.position_bias.weight, std=POSITION_BIAS_STD, generator=generator)
    for module in model.unet.modules():
        if isinstance(module, ResnetBlock2D):
            _clear(module.conv2)
        elif isinstance(module, Transformer2DModel):
            _clear(module.proj_out)
    _clear(model.unet.conv_out)


def _clear(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
