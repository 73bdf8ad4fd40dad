"""A trained Chat model as others load it: the converted folder, and on request the published files."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from models.checkpoints.companion_files import VOCABULARY_FILE
from models.checkpoints.conversion import write_folder, write_json
from models.checkpoints.published_names import published_name
from models.networks.chat.config import ChatConfig

PUBLISHED_FOLDER = "published"
PUBLISHED_FILE = "pytorch_model.pt"
PUBLISHED_LLM_CONFIG = "cpm-bee.json"
CHAT_CONFIG = "chat_config.json"


def export_chat(
    folder: Path,
    config: ChatConfig,
    weights: Mapping[str, Tensor],
    vocabulary: Path,
    dtype: torch.dtype,
    writes_published: bool,
) -> None:
    """Write a folder for `load_chat`; with `writes_published` also `published/` in the release's layout (SPEC §9).

    Args:
        folder: exists.
        weights: ChatModel's parameters by our names, on the CPU.
    """
    tensors = {published_name("chat", name): tensor.to(dtype) for name, tensor in weights.items()}
    shutil.copyfile(vocabulary, folder / VOCABULARY_FILE)
    write_folder(folder, "chat", config, tensors.items(), untrained=False)
    if writes_published:
        published = folder / PUBLISHED_FOLDER
        published.mkdir(exist_ok=True)
        torch.save(tensors, published / PUBLISHED_FILE)
        write_json(published / PUBLISHED_LLM_CONFIG, config.llm.to_published())
        write_json(published / CHAT_CONFIG, config.to_published())
        shutil.copyfile(vocabulary, published / VOCABULARY_FILE)
