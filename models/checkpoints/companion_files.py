"""What lies beside a checkpoint's tensors: sizes, vocabulary, UNet configuration, VAE, noise schedule."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from models.checkpoints.tensor_files import CheckpointError
from models.networks.cpm_bee.tokenizer import Tokenizer
from models.networks.paint.config import SD21_BASE_SCHEDULER, SD21_BASE_UNET

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

CONFIG_FILE = "config.json"
CONFIG_FORMAT = "viscpm"  # the value of "format" that tells our config.json from others of that name
FINGERPRINT_FILE = "fingerprint"
VOCABULARY_FILE = "vocab.txt"
UNET_CONFIG_FILE = "unet/config.json"
SCHEDULER_CONFIG_FILE = "scheduler/scheduler_config.json"


def config_beside(folder: Path, kind: str) -> Path | None:
    """`config.json` of a converted folder, or `chat_config.json` / `paint_config.json`."""
    converted = folder / CONFIG_FILE
    if converted.is_file() and read_config(converted).get("format") == CONFIG_FORMAT:
        return converted
    beside = folder / f"{kind}_config.json"
    return beside if beside.is_file() else None


def read_config(file: Path | None) -> Mapping[str, Any]:
    """The fields of a JSON configuration file; none for None. Raises CheckpointError."""
    if file is None:
        return {}
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file}: not a readable JSON file ({error})") from error
    if not isinstance(fields, dict):
        raise CheckpointError(f"{file}: holds a {type(fields).__name__}, expected an object")
    return fields


def find_vocabulary(checkpoint: Path, vocabulary: Path | None) -> Path:
    """`vocabulary`, or vocab.txt beside the checkpoint file. Raises CheckpointError."""
    file = vocabulary or checkpoint.parent / VOCABULARY_FILE
    if not file.is_file():
        named = "" if vocabulary else "; name one (VISCPM_CHAT_VOCAB or VISCPM_PAINT_VOCAB)"
        raise CheckpointError(f"{checkpoint}: no vocabulary at {file}{named}")
    return file


def load_tokenizer(checkpoint: Path, num_embeddings: int, vocabulary: Path | None) -> Tokenizer:
    """The tokenizer of a checkpoint's vocabulary, held against its embedding. Raises CheckpointError."""
    file = find_vocabulary(checkpoint, vocabulary)
    try:
        tokenizer = Tokenizer(file)
    except ValueError as error:
        raise CheckpointError(f"{file}: not a usable vocabulary: {error}") from error
    if tokenizer.vocab_size != num_embeddings:
        raise CheckpointError(
            f"{file}: {tokenizer.vocab_size} entries, but the embedding of {checkpoint} has {num_embeddings} rows"
        )
    return tokenizer


def read_unet_config(folder: Path) -> Mapping[str, Any]:
    """`unet/config.json` of the folder, or that of Stable Diffusion 2.1-base."""
    file = folder / UNET_CONFIG_FILE
    return read_config(file) if file.is_file() else SD21_BASE_UNET


def read_scheduler_config(*folders: Path) -> dict[str, Any]:
    """`scheduler/scheduler_config.json` of the first folder that has one, or that of Stable Diffusion 2.1-base."""
    files = [folder / SCHEDULER_CONFIG_FILE for folder in folders]
    return dict(next((read_config(file) for file in files if file.is_file()), SD21_BASE_SCHEDULER))


def find_vae(folder: Path, vae: Path | None) -> Path:
    """The VAE's own folder: `vae`, `vae/vae`, or without `vae` the checkpoint's own. Raises CheckpointError."""
    candidates = [folder / "vae"] if vae is None else [vae, vae / "vae"]
    for candidate in candidates:
        if (candidate / CONFIG_FILE).is_file():
            return candidate
    looked = " or ".join(str(candidate / CONFIG_FILE) for candidate in candidates)
    raise CheckpointError(
        f"{vae or folder}: no VAE ({looked}); set VISCPM_PAINT_VAE to a folder with config.json and "
        "diffusion_pytorch_model.safetensors or .bin (viscpm checkpoint fetch sd21-base gets one)"
    )


def load_vae(folder: Path, device: torch.device) -> "AutoencoderKL":
    """A diffusers VAE in float32, in its files' old or new attention names. Raises CheckpointError."""
    from diffusers import AutoencoderKL

    try:
        vae = AutoencoderKL.from_pretrained(folder, torch_dtype=torch.float32, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise CheckpointError(f"{folder}: not a usable VAE ({str(error).splitlines()[0]})") from error
    return vae.requires_grad_(False).eval().to(device)
