"""The converted folder: sharded safetensors under the published names, with all that a bare file lacks.

```
config.json                        kind and sizes            fingerprint   digest of the tensors
model.safetensors.index.json       name -> shard             vocab.txt     the vocabulary
model-00001-of-00005.safetensors   ...                       unet/ vae/ scheduler/   Paint only
```
"""

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
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
from models.checkpoints.tensor_files import SHARD_INDEX, CheckpointError, MappedTensors, fingerprint
from models.checkpoints.training_text import TrainingText
from models.networks.chat.config import ChatConfig
from models.networks.paint.config import PaintConfig

DEFAULT_SHARD_BYTES = 4 * 1024**3
AS_IT_COMES = TrainingText()


def convert(
    source: Path,
    folder: Path,
    vocabulary: Path | None = None,
    vae: Path | None = None,
    shard_bytes: int = DEFAULT_SHARD_BYTES,
    config: Path | None = None,
) -> str:
    """Convert a published file into a folder, every tensor unchanged, and return its fingerprint.

    Args:
        folder: must not exist; it appears when it is complete.
        vocabulary, vae, config: as for `load_paint`.

    Raises:
        CheckpointError: the source cannot be used, or the folder exists.
    """
    _refuse_existing(folder)
    checkpoint = open_checkpoint(source, config=config)
    return _write_whole(folder, checkpoint, checkpoint.tensors, vocabulary, vae, shard_bytes)


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
    return _write_whole(folder, first, means)


def _refuse_existing(folder: Path) -> None:
    if folder.exists():
        raise CheckpointError(f"{folder}: exists already; a new folder is written")


def _write_whole(
    folder: Path,
    checkpoint: Checkpoint,
    tensors: Mapping[str, Tensor],
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
    tensors: Mapping[str, Tensor],
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
    )


def write_folder(
    folder: Path,
    kind: Kind,
    config: ChatConfig | PaintConfig,
    tensors: Mapping[str, Tensor],
    untrained: bool,
    shard_bytes: int = DEFAULT_SHARD_BYTES,
    training_text: TrainingText = AS_IT_COMES,
) -> str:
    """Write configuration, shards and fingerprint into an existing folder, and return the fingerprint.

    Args:
        tensors: published name -> tensor on the CPU; no more than a shard of them is in memory at once.
    """
    fields: dict[str, Any] = {"format": CONFIG_FORMAT, "model": kind, "untrained": untrained}
    if isinstance(config, ChatConfig):
        fields |= config.to_published()
    else:
        fields["llm"] = config.llm.to_published()
        write_json(folder / UNET_CONFIG_FILE, config.unet)
    if training_text != AS_IT_COMES:
        fields["training_text"] = training_text.to_published()
    write_json(folder / CONFIG_FILE, fields)
    _write_shards(folder, tensors, shard_bytes)
    digest = fingerprint(tensors)
    (folder / FINGERPRINT_FILE).write_text(digest + "\n")
    return digest


def _write_shards(folder: Path, tensors: Mapping[str, Tensor], shard_bytes: int) -> None:
    shards = list(_shards(tensors, shard_bytes))
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards, 1):
        shard = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        save_file({name: tensors[name].contiguous() for name in names}, folder / shard, metadata={"format": "pt"})
        for name in names:
            weight_map[name] = shard
            if isinstance(tensors, MappedTensors):
                tensors.release(tensors[name])
    total_bytes = sum(tensor.nbytes for tensor in tensors.values())
    write_json(folder / SHARD_INDEX, {"metadata": {"total_size": total_bytes}, "weight_map": weight_map})


def _shards(tensors: Mapping[str, Tensor], shard_bytes: int) -> Iterable[list[str]]:
    """Names in order, cut where a shard would grow past its size; a larger tensor has a shard of its own."""
    names: list[str] = []
    size = 0
    for name, tensor in tensors.items():
        if names and size + tensor.nbytes > shard_bytes:
            yield names
            names, size = [], 0
        names.append(name)
        size += tensor.nbytes
    if names:
        yield names


def _copy_files(source: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for file in sorted(source.iterdir()):
        if file.is_file():
            shutil.copyfile(file, target / file.name)


def write_json(file: Path, fields: Mapping[str, Any]) -> None:
    """Write a configuration file and the folder it stands in."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(fields, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
