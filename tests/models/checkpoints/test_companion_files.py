"""What lies beside the tensors: found, read, and refused in one line that names the file."""

import json
from pathlib import Path

import pytest
import torch

from models.checkpoints.companion_files import (
    CONFIG_FORMAT,
    config_beside,
    find_vae,
    load_tokenizer,
    load_vae,
    read_config,
    read_scheduler_config,
    read_unet_config,
)
from models.checkpoints.conversion import write_json
from models.checkpoints.loading import load_chat, load_paint
from models.checkpoints.tiny import tiny_vae
from models.networks.chat.config import ChatConfig
from models.networks.paint.config import SD21_BASE_SCHEDULER, SD21_BASE_UNET
from tests.models.checkpoints.refusals import refusal

CPU = torch.device("cpu")


def test_a_converted_folders_configuration_comes_before_one_of_the_kind(tmp_path: Path) -> None:
    assert config_beside(tmp_path, "chat") is None
    assert read_config(None) == {}
    write_json(tmp_path / "chat_config.json", {"query_num": 4})
    assert config_beside(tmp_path, "chat") == tmp_path / "chat_config.json"
    assert config_beside(tmp_path, "paint") is None
    write_json(tmp_path / "config.json", {"model_type": "bert"})  # somebody else's
    assert config_beside(tmp_path, "chat") == tmp_path / "chat_config.json"
    write_json(tmp_path / "config.json", {"format": CONFIG_FORMAT})
    assert config_beside(tmp_path, "chat") == tmp_path / "config.json"


def test_a_tokenizer_has_a_row_of_the_embedding_for_each_entry(tmp_path: Path) -> None:
    checkpoint, entries = tmp_path / "model.bin", ["<pad>", "<unk>", "<s>", "</s>", "<root>", "</n>", "</_>", "<ans>"]
    (tmp_path / "vocab.txt").write_text("\n".join(entries))
    assert load_tokenizer(checkpoint, 8, None).vocab_size == 8
    assert refusal(load_tokenizer, checkpoint, 9, None) == (
        f"{tmp_path / 'vocab.txt'}: 8 entries, but the embedding of {checkpoint} has 9 rows"
    )


def test_a_folder_without_configurations_is_of_stable_diffusion(tmp_path: Path) -> None:
    first, second = tmp_path / "checkpoint", tmp_path / "sd"
    assert read_unet_config(first) == SD21_BASE_UNET
    assert read_scheduler_config(first, second) == SD21_BASE_SCHEDULER
    write_json(first / "unet" / "config.json", {"sample_size": 8})
    write_json(second / "scheduler" / "scheduler_config.json", {"beta_start": 0.5})
    assert read_unet_config(first) == {"sample_size": 8}
    assert read_scheduler_config(first, second) == {"beta_start": 0.5}
    write_json(first / "scheduler" / "scheduler_config.json", {"beta_start": 0.25})
    assert read_scheduler_config(first, second) == {"beta_start": 0.25}  # the first folder that has one


def test_a_vae_is_found_in_its_own_folder_or_the_one_above(tmp_path: Path) -> None:
    own = tmp_path / "vae"
    write_json(own / "config.json", {})
    assert find_vae(tmp_path, None) == find_vae(Path("anywhere"), own) == find_vae(Path("anywhere"), tmp_path) == own


@pytest.mark.slow
def test_a_vae_is_loaded_in_float32_to_be_read_alone(tmp_path: Path) -> None:
    tiny_vae(seed=3).half().save_pretrained(tmp_path)
    vae = load_vae(tmp_path, CPU)
    assert {parameter.dtype for parameter in vae.parameters()} == {torch.float32}
    assert not vae.training and not any(parameter.requires_grad for parameter in vae.parameters())
    latents = torch.zeros(1, vae.config.latent_channels, 4, 4)
    assert vae.decode(latents).sample.isfinite().all()


def test_a_vae_whose_configuration_is_of_other_tensors_is_refused(tmp_path: Path) -> None:
    tiny_vae(seed=3).save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"latent_channels": 3}))
    assert refusal(load_vae, tmp_path, CPU).startswith(f"{tmp_path}: not a usable VAE (")


@pytest.mark.slow
def test_vocabularies(chat_file: Path, tmp_path: Path) -> None:
    entries = (chat_file.parent / "vocab.txt").read_text().split("\n")
    other = tmp_path / "other.txt"
    other.write_text("\n".join([*entries, "q"]))
    assert refusal(load_chat, chat_file, other) == (
        f"{other}: {len(entries) + 1} entries, but the embedding of {chat_file} has {len(entries)} rows"
    )
    other.write_text("\n".join(entries[1:]))
    assert f"{other}: not a usable vocabulary: " in refusal(load_chat, chat_file, other)
    other.write_bytes(b"\xff\xfe")
    assert f"{other}: not a usable vocabulary: " in refusal(load_chat, chat_file, other)
    assert refusal(load_chat, chat_file, tmp_path / "no.txt") == f"{chat_file}: no vocabulary at {tmp_path / 'no.txt'}"
    (chat_file.parent / "vocab.txt").unlink()
    assert "name one (VISCPM_CHAT_VOCAB or VISCPM_PAINT_VOCAB)" in refusal(load_chat, chat_file)


@pytest.mark.slow
def test_configurations(chat_file: Path) -> None:
    config = chat_file.parent / "chat_config.json"
    config.write_text("{")
    assert refusal(load_chat, chat_file).startswith(f"{config}: not a readable JSON file (")
    config.write_text("[1]")
    assert refusal(load_chat, chat_file) == f"{config}: holds a list, expected an object"
    config.write_text('{"llm": {"vocab_size": 3}}')
    assert "no usable sizes: the CPM-Bee configuration lacks dim_model" in refusal(load_chat, chat_file)
    config.unlink()
    assert "image side 33 px is not a multiple of patch 8 px" in refusal(load_chat, chat_file, image_size_px=33)


@pytest.mark.slow
def test_a_missing_vae_names_its_setting(paint_file: Path, tmp_path: Path) -> None:
    (paint_file.parent / "vae" / "config.json").rename(tmp_path / "config.json")
    message = refusal(load_paint, paint_file)
    assert "no VAE" in message
    assert "set VISCPM_PAINT_VAE to a folder" in message
    assert str(tmp_path / "nothing") in refusal(load_paint, paint_file, vae=tmp_path / "nothing")


@pytest.mark.slow
def test_a_broken_vae_is_named(paint_file: Path) -> None:
    folder = paint_file.parent / "vae"
    (folder / "diffusion_pytorch_model.safetensors").write_bytes(b"short")
    assert refusal(load_paint, paint_file).startswith(f"{folder}: not a usable VAE (")


@pytest.mark.slow
def test_a_foreign_configuration_is_left_alone(chat_file: Path, chat_config: ChatConfig) -> None:
    write_json(chat_file.parent / "config.json", {"model_type": "viscpmchatbee", "hidden_size": 1})
    assert load_chat(chat_file).config == chat_config


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["own folder", "folder above"])
def test_a_vae_may_lie_elsewhere(paint_file: Path, tmp_path: Path, layout: str) -> None:
    folder = tmp_path / "sd" / "vae"
    folder.parent.mkdir()
    (paint_file.parent / "vae").rename(folder)
    write_json(tmp_path / "sd" / "scheduler" / "scheduler_config.json", {"beta_start": 0.001})
    loaded = load_paint(paint_file, vae=folder if layout == "own folder" else folder.parent)
    assert loaded.vae.config.latent_channels == 4
    assert loaded.scheduler_config == {"beta_start": 0.001}
