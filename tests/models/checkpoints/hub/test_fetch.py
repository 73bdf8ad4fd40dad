"""Fetching from a stand-in for the hub: names, digests, mirrors, folders, and going on after a break."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.checkpoints.hub.fetch import fetch
from models.checkpoints.tensor_files import CheckpointError
from tests.models.checkpoints.hub.conftest import VOCABULARY, WEIGHTS

NewHub = Callable[..., Any]
CHAT = "openbmb/VisCPM-Chat"


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
    with pytest.raises(
        CheckpointError, match=r"wrong content: checksum [0-9a-f]{16}… instead of [0-9a-f]{16}…; thrown away"
    ):
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


@pytest.mark.slow
def test_the_variable_chooses_the_hub(
    hub: Any, modelscope_hub: Any, new_hub: NewHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with new_hub(dict(hub.files)) as mirror:
        for value, asked in (("huggingface", hub), ("modelscope", modelscope_hub), (mirror.url + "/", mirror)):
            monkeypatch.setenv("VISCPM_HUB", value)
            files = fetch("chat-v1.1", tmp_path / value[:7].strip("/:"))
            assert [file.read_bytes() for file in files] == [WEIGHTS, VOCABULARY]
            assert [bool(one.requests) for one in (hub, modelscope_hub, mirror)] == [
                one is asked for one in (hub, modelscope_hub, mirror)
            ]
            for one in (hub, modelscope_hub, mirror):
                one.requests.clear()
        assert not mirror.credentials + modelscope_hub.credentials
    fetch("chat-v1.1", tmp_path / "flag", hub="modelscope")
    assert modelscope_hub.requests and not hub.requests, "the flag wins"


def test_what_is_no_hub_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISCPM_HUB", "modelscoop")
    with pytest.raises(CheckpointError, match="VISCPM_HUB=modelscoop: huggingface, modelscope or the URL of a mirror"):
        fetch("chat-v1.1", tmp_path)


@pytest.mark.waiting
def test_one_hub_goes_on_with_what_another_began(hub: Any, modelscope_hub: Any, tmp_path: Path) -> None:
    modelscope_hub.break_after_bytes = 120_000
    with pytest.raises(CheckpointError):
        fetch("chat-v1.1", tmp_path, hub="modelscope")
    (partial,) = tmp_path.glob("*.part")
    received = partial.stat().st_size
    fetch("chat-v1.1", tmp_path)
    assert hub.ranges("pytorch_model.v1.bin")[-1] == f"bytes={received}-"
    assert (tmp_path / "pytorch_model.v1.bin").read_bytes() == WEIGHTS


def test_sizes_are_told_before_anything_comes(hub: Any, tmp_path: Path) -> None:
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        assert not list(tmp_path.iterdir())

    fetch("chat-v1.1", tmp_path, tell=tell)
    assert told[0].startswith("2 files of 0.3 MB, of which 0.3 MB are to come into ") and "are free there" in told[0]
    told.clear()
    fetch("chat-v1.1", tmp_path, tell=told.append)
    assert "of which 0.0 MB are to come" in told[0]


def test_a_disk_that_is_too_small_is_told_before_anything_comes(hub: Any, tmp_path: Path) -> None:
    hub.tells_size_bytes = 10**16
    with pytest.raises(CheckpointError, match=r"^10000000\.0 GB are needed in .*, [\d.]+ GB are free: make room, or"):
        fetch("chat-v1.1", tmp_path)
    assert not list(tmp_path.iterdir())
    assert {method for method, _, _ in hub.requests} == {"HEAD"}


@pytest.mark.parametrize("source", ["huggingface", "modelscope", "folder"])
def test_a_repository_is_taken_whole(hub: Any, modelscope_hub: Any, tmp_path: Path, source: str) -> None:
    """A plain folder of what is published, but for what git alone reads."""
    contents = {"config.json": b"{}", "model.safetensors": WEIGHTS, "more/tokenizer.json": b"[]"}
    published = {f"Qwen/Qwen3Guard-Gen-0.6B/{name}": content for name, content in contents.items()}
    mirrors = []
    if source == "folder":
        mirrors = [str(tmp_path / "mirror")]
        for name, content in published.items():
            (tmp_path / "mirror" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "mirror" / name).write_bytes(content)
    else:
        (hub if source == "huggingface" else modelscope_hub).files = published | {
            "Qwen/Qwen3Guard-Gen-0.6B/.gitattributes": b"*.safetensors filter=lfs"
        }
    files = fetch("qwen3guard-0.6b", tmp_path / "guard", mirrors, hub="modelscope" if source == "modelscope" else None)
    assert {file.relative_to(tmp_path / "guard").as_posix(): file.read_bytes() for file in files} == contents
    found = [path for path in (tmp_path / "guard").rglob("*") if path.is_file()]
    assert sorted(found) == sorted(files)


def test_a_repository_that_nobody_has(hub: Any, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"^cannot list Qwen/Qwen3Guard-Gen-0\.6B; tried .*nowhere.*; http.*404"):
        fetch("qwen3guard-0.6b", tmp_path, [str(tmp_path / "nowhere")])
