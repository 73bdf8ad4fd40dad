"""Checkpoints with several layers, stored in half precision as published, and what engines make of them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.checkpoints.conversion import write_folder
from models.checkpoints.loading import LoadedChat
from models.checkpoints.published_names import published_name
from models.checkpoints.random_weights import random_chat

NUM_LAYERS = 5


@pytest.fixture(scope="session")
def deep_chat(loaded: LoadedChat) -> LoadedChat:
    """The tiny Chat model with more layers than there are buffers."""
    config = replace(loaded.config, llm=replace(loaded.config.llm, num_layers=NUM_LAYERS))
    model = random_chat(config, "cpu", torch.float16, seed=7)
    return replace(loaded, model=model, config=config)


@pytest.fixture(scope="session")
def chat_folder(deep_chat: LoadedChat, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It as a converted folder."""
    folder = tmp_path_factory.mktemp("checkpoints") / "deep"
    folder.mkdir()
    tensors = {published_name("chat", name): tensor for name, tensor in deep_chat.model.state_dict().items()}
    (folder / "vocab.txt").write_text("\n".join(vocabulary(deep_chat)), encoding="utf-8")
    write_folder(folder, "chat", deep_chat.config, tensors.items(), untrained=True)
    return folder


def vocabulary(loaded: LoadedChat) -> Sequence[str]:
    """Lines of vocab.txt."""
    tokenizer = loaded.tokenizer
    names = [tokenizer.decode([index], {}) for index in range(tokenizer.vocab_size)]
    return [{"\n": "</n>", " ": "</_>", "<<": "<"}.get(name, name) for name in names]
