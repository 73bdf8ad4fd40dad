"""Lists and files of ModelScope's protocol."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from models.checkpoints.hub.fetch import fetch
from models.checkpoints.hub.modelscope import ModelScope, modelscope_endpoint
from models.checkpoints.tensor_files import CheckpointError
from tests.models.checkpoints.hub.conftest import VOCABULARY, WEIGHTS

CHAT = "openbmb/VisCPM-Chat"


def test_the_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    for domain, endpoint in (
        (None, "https://www.modelscope.cn"),
        ("www.modelscope.ai", "https://www.modelscope.ai"),
        ("http://127.0.0.1:80/", "http://127.0.0.1:80"),
    ):
        monkeypatch.setenv("MODELSCOPE_DOMAIN", domain) if domain else monkeypatch.delenv(
            "MODELSCOPE_DOMAIN", raising=False
        )
        assert modelscope_endpoint() == endpoint


def test_one_list_tells_of_all_files(modelscope_hub: Any) -> None:
    source = ModelScope(modelscope_hub.url)
    for name, content in (("pytorch_model.v1.bin", WEIGHTS), ("vocab.txt", VOCABULARY)):
        found = source.find(CHAT, name, None)
        assert (found.size_bytes, found.digest) == (len(content), hashlib.sha256(content).hexdigest())
    assert [path.partition("?")[0] for _, path, _ in modelscope_hub.requests] == [
        "/api/v1/models/OpenBMB/VisCPM-Chat/repo/files"
    ]


def test_folders_are_no_files(modelscope_hub: Any) -> None:
    modelscope_hub.files["Qwen/Qwen3Guard-Gen-0.6B/more/tokenizer.json"] = b"{}"
    assert ModelScope(modelscope_hub.url).names("Qwen/Qwen3Guard-Gen-0.6B", None) == ["more/tokenizer.json"]


@pytest.mark.slow
def test_what_it_has_not_is_told(modelscope_hub: Any, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        fetch("chat-zhplus", tmp_path, hub="modelscope")
    assert str(caught.value) == (
        f"cannot fetch viscpm_chat_zhplus_checkpoint.pt; tried {modelscope_hub.url} {CHAT}/viscpm_chat_zhplus_"
        "checkpoint.pt: 404: OpenBMB/VisCPM-Chat has no such file there"
    )
    with pytest.raises(CheckpointError, match="404: model Qwen/Qwen3Guard-Gen-0.6B does not exist"):
        fetch("qwen3guard-0.6b", tmp_path, hub="modelscope")


@pytest.mark.waiting
def test_an_interrupted_transfer_goes_on_by_range(modelscope_hub: Any, tmp_path: Path) -> None:
    modelscope_hub.break_after_bytes = 120_000
    with pytest.raises(CheckpointError):
        fetch("chat-v1.1", tmp_path, hub="modelscope")
    (partial,) = tmp_path.glob("*.part")
    received = partial.stat().st_size
    modelscope_hub.break_after_bytes = None
    modelscope_hub.requests.clear()
    fetch("chat-v1.1", tmp_path, hub="modelscope")
    assert modelscope_hub.ranges("/storage/OpenBMB/VisCPM-Chat/pytorch_model.v1.bin") == [f"bytes={received}-"]
    assert (tmp_path / "pytorch_model.v1.bin").read_bytes() == WEIGHTS


def test_wrong_content_is_thrown_away(modelscope_hub: Any, tmp_path: Path) -> None:
    modelscope_hub.tells_wrong_digest = True
    with pytest.raises(CheckpointError, match="wrong content: checksum"):
        fetch("chat-v1.1", tmp_path, hub="modelscope")
    assert list(tmp_path.iterdir()) == []
