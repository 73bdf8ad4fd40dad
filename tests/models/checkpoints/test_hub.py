"""Fetching from a stand-in for the hub: names, digests, mirrors, folders, and going on after a break."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from models.checkpoints.hub import COLLECTIONS, fetch
from models.checkpoints.tensor_files import CheckpointError

NewHub = Callable[..., Any]
CHAT = "openbmb/VisCPM-Chat"
WEIGHTS = random.Random(0).randbytes(300_000)
VOCABULARY = b"<pad>\n<unk>"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, new_hub: NewHub) -> Iterator[Any]:
    """Stands at the place of HF_ENDPOINT."""
    files = {f"{CHAT}/pytorch_model.v1.bin": WEIGHTS, f"{CHAT}/vocab.txt": VOCABULARY}
    with new_hub(files) as running:
        # What HF_ENDPOINT sets when the library is imported; test_cli.py sets the variable itself.
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, running.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)  # of 10 MB; what is written at once
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        yield running


def test_a_collection_arrives_whole(hub: Any, tmp_path: Path) -> None:
    files = fetch("chat-v1.1", tmp_path / "chat")
    assert [file.name for file in files] == ["pytorch_model.v1.bin", "vocab.txt"]
    assert [file.read_bytes() for file in files] == [WEIGHTS, VOCABULARY]
    assert sorted(path.name for path in (tmp_path / "chat").iterdir()) == ["pytorch_model.v1.bin", "vocab.txt"]


def test_what_is_there_already_is_not_transferred_again(hub: Any, tmp_path: Path) -> None:
    fetch("chat-v1.1", tmp_path)
    hub.requests.clear()
    fetch("chat-v1.1", tmp_path)
    assert {method for method, _, _ in hub.requests} == {"HEAD"}


def test_a_damaged_file_is_fetched_again(hub: Any, tmp_path: Path) -> None:
    fetch("chat-v1.1", tmp_path)
    for name in ("pytorch_model.v1.bin", "vocab.txt"):  # of the right length
        content = bytearray((tmp_path / name).read_bytes())
        content[0] ^= 1
        (tmp_path / name).write_bytes(content)
    files = fetch("chat-v1.1", tmp_path)
    assert [file.read_bytes() for file in files] == [WEIGHTS, VOCABULARY]


@pytest.mark.waiting
def test_an_interrupted_transfer_goes_on_where_it_stopped(hub: Any, tmp_path: Path) -> None:
    hub.break_after_bytes = 120_000
    with pytest.raises(CheckpointError, match=r"cannot fetch pytorch_model\.v1\.bin; tried http://127.*503"):
        fetch("chat-v1.1", tmp_path)
    assert not (tmp_path / "pytorch_model.v1.bin").exists()
    (partial,) = tmp_path.glob("pytorch_model.v1.bin.*.part")
    received = partial.stat().st_size
    assert 0 < received <= 120_000
    hub.break_after_bytes = None
    hub.requests.clear()
    fetch("chat-v1.1", tmp_path)
    assert hub.ranges("pytorch_model.v1.bin") == [f"bytes={received}-"]
    assert (tmp_path / "pytorch_model.v1.bin").read_bytes() == WEIGHTS
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.waiting
def test_another_source_goes_on_with_the_same_content(hub: Any, new_hub: NewHub, tmp_path: Path) -> None:
    hub.break_after_bytes = 120_000
    with pytest.raises(CheckpointError):
        fetch("chat-v1.1", tmp_path)
    with new_hub(dict(hub.files)) as mirror:
        fetch("chat-v1.1", tmp_path, [mirror.url + "/"])
        assert mirror.ranges("pytorch_model.v1.bin")[0].startswith("bytes=")
    assert (tmp_path / "pytorch_model.v1.bin").read_bytes() == WEIGHTS


def test_wrong_content_is_thrown_away(hub: Any, tmp_path: Path) -> None:
    hub.tells_wrong_digest = True
    with pytest.raises(CheckpointError, match="another digest than the hub names"):
        fetch("chat-v1.1", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_mirrors_come_first_and_in_order(hub: Any, new_hub: NewHub, tmp_path: Path) -> None:
    with new_hub({f"{CHAT}/vocab.txt": b"mirrored"}) as first, new_hub(dict(hub.files)) as second:
        files = fetch("chat-v1.1", tmp_path, [first.url, second.url])
        assert [file.read_bytes() for file in files] == [WEIGHTS, b"mirrored"]
        assert not hub.requests
        assert not first.credentials + second.credentials  # those are for the hub alone


def test_the_hub_gets_the_credentials(hub: Any, tmp_path: Path) -> None:
    fetch("chat-v1.1", tmp_path)
    assert f"/{CHAT}/resolve/main/vocab.txt" in hub.credentials


@pytest.mark.parametrize("layout", [f"{CHAT}/", ""])
def test_local_folders_are_mirrors(hub: Any, tmp_path: Path, layout: str) -> None:
    mirror = tmp_path / "mirror"
    for name, content in (("pytorch_model.v1.bin", WEIGHTS), ("vocab.txt", VOCABULARY)):
        (mirror / layout / name).parent.mkdir(parents=True, exist_ok=True)
        (mirror / layout / name).write_bytes(content)
    files = fetch("chat-v1.1", tmp_path / "to", [str(mirror)])
    assert [file.read_bytes() for file in files] == [WEIGHTS, VOCABULARY]
    assert not hub.requests


def test_both_names_of_a_renamed_file_are_tried(hub: Any, tmp_path: Path) -> None:
    hub.files[f"{CHAT}/pytorch_model.bin"] = b"balance"
    assert fetch("chat-balance", tmp_path)[0] == tmp_path / "pytorch_model.bin"


def test_withdrawn_repositories_have_copies(hub: Any, tmp_path: Path) -> None:
    copy = "Manojb/stable-diffusion-2-1-base"
    names = (
        "vae/config.json",
        "vae/diffusion_pytorch_model.bin",
        "scheduler/scheduler_config.json",
        "unet/config.json",
    )
    hub.files.update({f"{copy}/{name}": name.encode() for name in names})
    files = fetch("sd21-base", tmp_path)
    assert [file.relative_to(tmp_path).as_posix() for file in files] == list(names)


def test_all_that_was_tried_is_told(hub: Any, tmp_path: Path) -> None:
    hub.files.clear()
    with pytest.raises(CheckpointError) as caught:
        fetch("chat-balance", tmp_path, ["http://127.0.0.1:9", str(tmp_path / "nowhere")])
    message = str(caught.value)
    assert "\n" not in message
    for name in ("viscpm_chat_balance_checkpoint.pt", "pytorch_model.bin"):
        assert f"http://127.0.0.1:9 {CHAT}/{name}: " in message
        assert f"{tmp_path / 'nowhere'} {CHAT}/{name}: neither " in message
        assert f"{hub.url} {CHAT}/{name}: 404" in message


def test_every_collection_names_its_files() -> None:
    assert set(COLLECTIONS) == {
        *(
            "chat-v1.1",
            "chat-balance",
            "chat-zhplus",
            "paint-balance",
            "paint-zhplus",
            "sd21-base",
            "chinese-clip",
            "qwen3guard-0.6b",
        )
    }
    for wanted in COLLECTIONS.values():
        assert all(repository.count("/") == 1 and file for item in wanted for repository, file in item.places)
