"""The converted folder: sharded safetensors under the published names, with all that a bare file lacks.

```
config.json                        kind and sizes            fingerprint   digest of the tensors
model.safetensors.index.json       name -> shard             vocab.txt     the vocabulary
model-00001-of-00005.safetensors   ...                       unet/ vae/ scheduler/   Paint only
```
"""

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from models.checkpoints.companion_files import (
    CONFIG_FILE,
    CONFIG_FORMAT,
    FINGERPRINT_FILE,
    SCHEDULER_CONFIG_FILE,
    UNET_CONFIG_FILE,
    VOCABULARY_FILE,
    find_vae,
    find_vocabulary,
    read_scheduler_config,
)
from models.checkpoints.loading import Checkpoint, open_checkpoint
from models.checkpoints.published_names import Kind
from models.checkpoints.quantization.stored import (
    CONFIG_FIELD,
    chosen_quantization,
    quantized_tensors,
    refuse_quantized,
)
from models.checkpoints.tensor_files import SHARD_INDEX, CheckpointError, fingerprint, map_tensors
from models.checkpoints.training_text import TrainingText
from models.jobs import Quantization
from models.networks.chat.config import ChatConfig
from models.networks.paint.config import PaintConfig

Tensors = Iterable[tuple[str, Tensor]]
Release = Callable[[Tensor], object]

DEFAULT_SHARD_BYTES = 4 * 1024**3
AS_IT_COMES = TrainingText()


def convert(
    source: Path,
    folder: Path,
    vocabulary: Path | None = None,
    vae: Path | None = None,
    shard_bytes: int = DEFAULT_SHARD_BYTES,
    config: Path | None = None,
    quantization: Quantization = "off",
) -> str:
    """Convert a published file into a folder, and return its fingerprint.

    Args:
        quantization: of the language model's linear layers; `off` leaves every tensor unchanged, quantized ones too.
        folder: must not exist; it appears when it is complete.
        vocabulary, vae, config: as for `load_paint`.

    Raises:
        CheckpointError: the source cannot be used, or the folder exists.
    """
    _refuse_existing(folder)
    checkpoint = open_checkpoint(source, config=config)
    tensors: Tensors = checkpoint.tensors.items()
    chosen = chosen_quantization(checkpoint.quantization, quantization, checkpoint.file)
    if chosen != checkpoint.quantization:
        checkpoint.quantization = chosen
        tensors = quantized_tensors(checkpoint.tensors, checkpoint.parameters, chosen)
    return _write_whole(folder, checkpoint, tensors, vocabulary, vae, shard_bytes)


def average(sources: Sequence[Path], folder: Path) -> str:
    """Write the mean of checkpoints of one training, with what lies beside the first, and return its fingerprint.

    Weights from runs that went on from one another lie in one valley, whose middle errs less than its sides (Wortsman
    and others, 2022). Means are taken in float32 and keep the first one's dtypes.

    Args:
        folder: must not exist; it appears when it is complete.

    Raises:
        CheckpointError: a source cannot be used or is of another model, or the folder exists.
    """
    _refuse_existing(folder)
    first, *others = (open_checkpoint(source) for source in sources)
    for one in (first, *others):
        refuse_quantized(one.quantization, one.file, "averaged")
    for other in others:
        if (other.kind, other.stored_config, other.tensors.keys()) != (
            first.kind,
            first.stored_config,
            first.tensors.keys(),
        ):
            raise CheckpointError(f"{other.file}: not the kind and sizes of {first.file}")
    means = {
        name: torch.stack([one.tensors[name].float() for one in (first, *others)]).mean(0).to(tensor.dtype)
        for name, tensor in first.tensors.items()
    }
    return _write_whole(folder, first, means.items())


def _refuse_existing(folder: Path) -> None:
    if folder.exists():
        raise CheckpointError(f"{folder}: exists already; a new folder is written")


def _write_whole(
    folder: Path,
    checkpoint: Checkpoint,
    tensors: Tensors,
    vocabulary: Path | None = None,
    vae: Path | None = None,
    shard_bytes: int = DEFAULT_SHARD_BYTES,
) -> str:
    """A checkpoint's folder with these tensors, under another name until all is there."""
    checkpoint.tokenizer(vocabulary)
    vocabulary = find_vocabulary(checkpoint.file, vocabulary)
    vae = find_vae(checkpoint.folder, vae) if checkpoint.kind == "paint" else None
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        digest = _write_checkpoint(partial, checkpoint, tensors, vocabulary, vae, shard_bytes)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    partial.rename(folder)
    return digest


def _write_checkpoint(
    folder: Path,
    checkpoint: Checkpoint,
    tensors: Tensors,
    vocabulary: Path,
    vae: Path | None,
    shard_bytes: int,
) -> str:
    shutil.copyfile(vocabulary, folder / VOCABULARY_FILE)
    if vae is not None:
        _copy_files(vae, folder / "vae")
        write_json(folder / SCHEDULER_CONFIG_FILE, read_scheduler_config(checkpoint.folder, vae.parent))
    return write_folder(
        folder,
        checkpoint.kind,
        checkpoint.stored_config,
        tensors,
        checkpoint.untrained,
        shard_bytes,
        checkpoint.training_text,
        checkpoint.quantization,
        checkpoint.tensors.release,
    )


def write_folder(
    folder: Path,
    kind: Kind,
    config: ChatConfig | PaintConfig,
    tensors: Tensors,
    untrained: bool,
    shard_bytes: int = DEFAULT_SHARD_BYTES,
    training_text: TrainingText = AS_IT_COMES,
    quantization: Quantization = "off",
    release: Release = lambda tensor: None,
) -> str:
    """Write configuration, shards and fingerprint into an existing folder, and return the fingerprint.

    Args:
        tensors: published names and tensors on the CPU; no more than a shard of them is in memory at once.
        release: gets each tensor when it is written.
    """
    fields: dict[str, Any] = {"format": CONFIG_FORMAT, "model": kind, "untrained": untrained}
    if isinstance(config, ChatConfig):
        fields |= config.to_published()
    else:
        fields["llm"] = config.llm.to_published()
        write_json(folder / UNET_CONFIG_FILE, config.unet)
    if training_text != AS_IT_COMES:
        fields["training_text"] = training_text.to_published()
    if quantization != "off":
        fields[CONFIG_FIELD] = quantization
    write_json(folder / CONFIG_FILE, fields)
    _write_shards(folder, tensors, shard_bytes, release)
    digest = fingerprint(map_tensors(folder / SHARD_INDEX))
    (folder / FINGERPRINT_FILE).write_text(digest + "\n")
    return digest


def _write_shards(folder: Path, tensors: Tensors, shard_bytes: int, release: Release) -> None:
    files: list[Path] = []
    names: list[list[str]] = []
    total_bytes = 0
    for shard in _shards(tensors, shard_bytes):
        files.append(folder / f"{len(files)}.partial")
        names.append(list(shard))
        total_bytes += sum(tensor.nbytes for tensor in shard.values())
        save_file({name: tensor.contiguous() for name, tensor in shard.items()}, files[-1], metadata={"format": "pt"})
        for tensor in shard.values():
            release(tensor)
    weight_map: dict[str, str] = {}
    for number, (file, shard_names) in enumerate(zip(files, names, strict=True), 1):
        name = f"model-{number:05d}-of-{len(files):05d}.safetensors"
        file.rename(folder / name)
        weight_map |= dict.fromkeys(shard_names, name)
    write_json(folder / SHARD_INDEX, {"metadata": {"total_size": total_bytes}, "weight_map": weight_map})


def _shards(tensors: Tensors, shard_bytes: int) -> Iterable[dict[str, Tensor]]:
    """Tensors in order, cut where a shard would grow past its size; a larger one has a shard of its own."""
    shard: dict[str, Tensor] = {}
    for name, tensor in tensors:
        if shard and sum(one.nbytes for one in shard.values()) + tensor.nbytes > shard_bytes:
            yield shard
            shard = {}
        shard[name] = tensor
    if shard:
        yield shard


def _copy_files(source: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for file in sorted(source.iterdir()):
        if file.is_file():
            shutil.copyfile(file, target / file.name)


def write_json(file: Path, fields: Mapping[str, Any]) -> None:
    """Write a configuration file and the folder it stands in."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(fields, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
