"""A trained model's files: a folder of ours, and on request those of the release."""

import json
from pathlib import Path

import pytest
import torch

from models.checkpoints.loading import load_chat
from models.checkpoints.published_names import published_name
from models.networks.chat.config import ChatConfig
from models.networks.chat.model import ChatModel
from models.training.chat.export import (
    CHAT_CONFIG,
    PUBLISHED_FILE,
    PUBLISHED_FOLDER,
    PUBLISHED_LLM_CONFIG,
    export_chat,
)
from tests.models.training_files import Data


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_folder_loads_with_the_weights_in_the_dtype_that_was_asked_for(
    data: Data, model: ChatModel, tmp_path: Path, dtype: torch.dtype
) -> None:
    export_chat(tmp_path, model.config, model.state_dict(), data.vocabulary, dtype, writes_published=False)
    loaded = load_chat(tmp_path)
    assert loaded.config == model.config and not loaded.untrained
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor.to(dtype)), name
    assert (tmp_path / "vocab.txt").read_bytes() == data.vocabulary.read_bytes()
    assert not (tmp_path / PUBLISHED_FOLDER).exists()


@pytest.mark.slow
def test_published_files_have_the_releases_names(data: Data, model: ChatModel, tmp_path: Path) -> None:
    export_chat(tmp_path, model.config, model.state_dict(), data.vocabulary, torch.float16, writes_published=True)
    published = tmp_path / PUBLISHED_FOLDER
    assert sorted(file.name for file in published.iterdir()) == [
        CHAT_CONFIG,
        PUBLISHED_LLM_CONFIG,
        PUBLISHED_FILE,
        "vocab.txt",
    ]
    stored = torch.load(published / PUBLISHED_FILE, weights_only=True)
    assert stored.keys() == {published_name("chat", name) for name in model.state_dict()}
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    llm = json.loads((published / PUBLISHED_LLM_CONFIG).read_text())
    assert llm == model.config.llm.to_published()
    assert ChatConfig.from_published(json.loads((published / CHAT_CONFIG).read_text())) == model.config
    assert load_chat(published / PUBLISHED_FILE).config == model.config


@pytest.mark.slow
def test_exporting_again_replaces_what_was_there(data: Data, model: ChatModel, tmp_path: Path) -> None:
    export_chat(tmp_path, model.config, model.state_dict(), data.vocabulary, torch.float32, writes_published=True)
    before = load_chat(tmp_path).fingerprint
    with torch.no_grad():
        model.query_tokens.add_(1)
    export_chat(tmp_path, model.config, model.state_dict(), data.vocabulary, torch.float32, writes_published=True)
    loaded = load_chat(tmp_path)
    assert loaded.fingerprint != before
    assert torch.equal(loaded.model.query_tokens, model.query_tokens)
