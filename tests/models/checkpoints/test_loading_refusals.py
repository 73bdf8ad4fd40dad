"""Whatever is wrong with a checkpoint: one line that names the file and the fault."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.checkpoints.loading import load_chat, load_paint, open_checkpoint
from tests.models.checkpoints.refusals import refusal

Tensors = dict[str, Tensor]
Save = Callable[..., Path]

LAYER_KEY = "llm.encoder.layers.1.ffn.ffn.w_in.w_0.weight"


@pytest.mark.slow
def test_missing_keys_are_named(chat_tensors: Tensors, save: Save) -> None:
    del chat_tensors[LAYER_KEY], chat_tensors["mapping.2.bias"]
    file = save(chat_tensors)
    assert refusal(load_chat, file) == f"{file}: missing keys: mapping.2.bias"
    chat_tensors["mapping.2.bias"] = torch.zeros(32).half()
    file = save(chat_tensors)
    assert refusal(load_chat, file) == f"{file}: missing keys: {LAYER_KEY}"


def test_extra_keys_are_named(chat_tensors: Tensors, save: Save) -> None:
    chat_tensors["llm.encoder.layers.1.ffn.ffn.w_in.w_2.weight"] = torch.zeros(2)
    chat_tensors["lm_head.weight"] = torch.zeros(2)
    file = save(chat_tensors)
    assert refusal(load_chat, file) == (
        f"{file}: extra keys: llm.encoder.layers.1.ffn.ffn.w_in.w_2.weight, lm_head.weight"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "shape", "expected"),
    [
        (LAYER_KEY, (40, 31), "40x31, expected 40x32"),
        ("llm.encoder.output_layernorm.weight", (33,), "33, expected 32"),
        ("query", (6, 63), "6x63, expected 6x64"),
        ("mapping.2.weight", (32, 32, 1), "32x32x1, expected 32x32"),
        ("vpm.beit3.encoder.layers.0.ffn.B.fc2.bias", (65,), "65, expected 64"),
    ],
)
def test_a_mis_shaped_key_is_named_alone(
    chat_tensors: Tensors, save: Save, key: str, shape: tuple[int, ...], expected: str
) -> None:
    chat_tensors[key] = torch.zeros(shape).half()
    file = save(chat_tensors)
    assert refusal(load_chat, file) == f"{file}: wrong shapes: {key} is {expected}"


@pytest.mark.slow
def test_many_faults_are_counted(chat_tensors: Tensors, save: Save) -> None:
    kept = {name: tensor for name, tensor in chat_tensors.items() if ".layers.0.ffn." not in name}
    num_missing = len(chat_tensors) - len(kept)
    message = refusal(load_chat, save(kept | {"lm_head": torch.zeros(1)}))
    assert "missing keys: llm.encoder.layers.0.ffn.ffn.w_in.w_0.weight, " in message
    assert f" and {num_missing - 10} more; extra keys: lm_head" in message


@pytest.mark.slow
def test_paint_is_held_to_its_keys_too(paint_file: Path, paint_tensors: Tensors) -> None:
    del paint_tensors["unet.conv_in.weight"]
    paint_tensors["unet.conv_out.bias"] = torch.zeros(5)
    paint_tensors["trans_block.more"] = torch.zeros(1)
    torch.save(paint_tensors, paint_file)
    assert refusal(load_paint, paint_file) == (
        f"{paint_file}: missing keys: unet.conv_in.weight; extra keys: trans_block.more; "
        "wrong shapes: unet.conv_out.bias is 5, expected 4"
    )


@pytest.mark.slow
def test_the_wrong_kind_is_refused(chat_file: Path, paint_file: Path) -> None:
    assert refusal(load_paint, chat_file) == f"{chat_file}: a Chat checkpoint, but a Paint one is wanted"
    assert refusal(load_chat, paint_file) == f"{paint_file}: a Paint checkpoint, but a Chat one is wanted"


@pytest.mark.parametrize("kept_share", [0.1, 0.6, 0.999])
def test_a_truncated_file_is_refused(chat_file: Path, kept_share: float) -> None:
    content = chat_file.read_bytes()
    chat_file.write_bytes(content[: int(len(content) * kept_share)])
    assert refusal(load_chat, chat_file).startswith(f"{chat_file}: truncated or damaged (")


def old_format() -> bytes:
    buffer = io.BytesIO()
    torch.save({"query": torch.zeros(1)}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a PyTorch checkpoint"),
        (b"<!DOCTYPE html><p>Sign in", "not a PyTorch checkpoint"),
        (b"version https://git-lfs.github.com/spec/v1\n", "not a PyTorch checkpoint"),
        (old_format(), "old format"),
    ],
)
def test_other_content_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "pytorch_model.bin"
    file.write_bytes(content)
    assert message in refusal(load_chat, file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"query": Path("x")}, "holds Python objects other than tensors"),
        ({"state_dict": {"query": torch.zeros(1)}}, "holds a dict under 'state_dict'"),
        ([torch.zeros(1)], "holds a list, expected a dictionary"),
        ({"lm_head.weight": torch.zeros(1)}, "neither a Chat checkpoint"),
        ({}, "neither a Chat checkpoint"),
    ],
)
def test_other_objects_are_refused(save: Save, content: object, message: str) -> None:
    assert message in refusal(load_chat, save(content))


def test_paths_that_lead_nowhere(tmp_path: Path, chat_file: Path, chat_tensors: Tensors) -> None:
    assert refusal(load_chat, tmp_path / "no.pt") == f"{tmp_path / 'no.pt'}: no such file or folder"
    (tmp_path / "empty").mkdir()
    assert "found none" in refusal(load_chat, tmp_path / "empty")
    torch.save(chat_tensors, chat_file.parent / "second.bin")
    assert "found 2 of them: pytorch_model.v1.bin, second.bin" in refusal(load_chat, chat_file.parent)


@pytest.mark.slow
def test_a_unet_that_cannot_be_is_refused(paint_file: Path) -> None:
    file = paint_file.parent / "unet" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"block_out_channels": [8]}))
    assert refusal(open_checkpoint, paint_file).startswith(f"{paint_file}: no usable sizes: ")
