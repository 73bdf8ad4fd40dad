"""The converted folder: everything in it, nothing changed, whole or absent."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.checkpoints.conversion import average, convert
from models.checkpoints.loading import load_chat, load_paint, open_checkpoint
from models.checkpoints.tensor_files import CheckpointError, map_tensors

Tensors = dict[str, Tensor]


@pytest.mark.slow
def test_a_chat_file_goes_through_unchanged(chat_file: Path, chat_tensors: Tensors, tmp_path: Path) -> None:
    folder = tmp_path / "converted"
    digest = convert(chat_file, folder, shard_bytes=50_000)
    assert sorted(path.name for path in folder.iterdir() if path.suffix != ".safetensors") == [
        "config.json",
        "fingerprint",
        "model.safetensors.index.json",
        "vocab.txt",
    ]
    converted = open_checkpoint(folder)
    assert converted.tensors.keys() == chat_tensors.keys()  # those that no model uses, too
    for name, tensor in chat_tensors.items():
        assert converted.tensors[name].dtype == tensor.dtype
        assert torch.equal(converted.tensors[name], tensor)
    before, after = load_chat(chat_file), load_chat(folder)
    assert after.config == before.config
    assert after.fingerprint == before.fingerprint == digest
    assert not after.untrained


@pytest.mark.slow
def test_shards_keep_to_their_size(chat_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "converted"
    convert(chat_file, folder, shard_bytes=20_000)
    shards = sorted(folder.glob("*.safetensors"))
    assert len(shards) > 5
    assert shards[0].name == f"model-00001-of-{len(shards):05d}.safetensors"
    for shard in shards:
        tensors = map_tensors(shard)
        assert sum(tensor.nbytes for tensor in tensors.values()) <= 20_000 or len(tensors) == 1


@pytest.mark.slow
def test_a_paint_folder_stands_alone(paint_file: Path, tmp_path: Path) -> None:
    before = load_paint(paint_file)
    folder = tmp_path / "deep" / "converted"
    convert(paint_file, folder)
    for path in sorted(paint_file.parent.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    after = load_paint(folder)
    assert after.fingerprint == before.fingerprint
    assert after.config == before.config
    assert after.scheduler_config == before.scheduler_config
    for name, parameter in before.model.state_dict().items():
        assert torch.equal(after.model.state_dict()[name], parameter)
    for name, parameter in before.vae.state_dict().items():
        assert torch.equal(after.vae.state_dict()[name], parameter)


@pytest.mark.slow
def test_a_converted_folder_converts_again(chat_file: Path, tmp_path: Path) -> None:
    digest = convert(chat_file, tmp_path / "one")
    assert convert(tmp_path / "one", tmp_path / "two", shard_bytes=30_000) == digest


def test_an_existing_folder_is_left_alone(chat_file: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(CheckpointError, match="exists already"):
        convert(chat_file, tmp_path / "there")


@pytest.mark.slow
def test_nothing_appears_when_the_source_is_not_whole(chat_file: Path, paint_file: Path, tmp_path: Path) -> None:
    (chat_file.parent / "vocab.txt").unlink()
    with pytest.raises(CheckpointError, match="no vocabulary"):
        convert(chat_file, tmp_path / "chat")
    (paint_file.parent / "vae" / "config.json").unlink()
    with pytest.raises(CheckpointError, match="no VAE"):
        convert(paint_file, tmp_path / "paint")
    assert not list(tmp_path.glob("chat*")) + list(tmp_path.glob("paint*"))


@pytest.mark.slow
def test_a_changed_shard_does_not_match_the_fingerprint(chat_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "converted"
    convert(chat_file, folder)
    shard = next(folder.glob("*.safetensors"))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(CheckpointError, match="its tensors do not match its fingerprint"):
        load_chat(folder)


@pytest.mark.slow
def test_the_sizes_in_the_folder_count(chat_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "converted"
    convert(chat_file, folder)
    config = folder / "config.json"
    fields = json.loads(config.read_text())
    fields["llm"]["dim_ff"] = 48
    config.write_text(json.dumps(fields))
    with pytest.raises(CheckpointError, match=r"wrong shapes: .*w_in\.w_0\.weight is 40x32, expected 48x32"):
        load_chat(folder)


@pytest.mark.slow
def test_an_average_is_the_mean_of_all_weights(
    chat_file: Path, chat_tensors: Tensors, paint_file: Path, tmp_path: Path
) -> None:
    shifted = tmp_path / "shifted" / chat_file.name
    shutil.copytree(chat_file.parent, shifted.parent)
    torch.save({name: tensor + 1 for name, tensor in chat_tensors.items()}, shifted)
    digest = average([chat_file, shifted, shifted], tmp_path / "mean")
    found = load_chat(tmp_path / "mean")
    assert found.fingerprint == digest
    before = load_chat(chat_file).model.state_dict()
    for name, tensor in found.model.state_dict().items():
        assert tensor.dtype == before[name].dtype
        torch.testing.assert_close(tensor.float(), before[name].float() + 2 / 3, rtol=2e-3, atol=2e-3)
    with pytest.raises(CheckpointError, match=f"{paint_file}: not the kind and sizes of {chat_file}"):
        average([chat_file, paint_file], tmp_path / "never")
    with pytest.raises(CheckpointError, match="exists already"):
        average([chat_file], tmp_path / "mean")
    assert not (tmp_path / "never").exists()
