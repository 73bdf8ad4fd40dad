"""The tower's check: passes on numbers of the model itself, and fails on any that differs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from models.checkpoints.conversion import write_json
from models.checkpoints.loading import load_chat
from models.checkpoints.published_names import published_name
from models.checkpoints.random_weights import random_chat
from models.networks.chat.config import ChatConfig
from models.networks.cpm_bee.config import CPMBeeConfig
from models.networks.vision.config import VisionConfig
from models.networks.vision.preprocess import normalise
from models.parity import vision
from models.parity.fixtures import Fixtures
from models.parity.report import Report

VOCABULARY = ["<pad>", "<unk>", "</n>", "</_>", "<s>", "</s>", "<root>", "<ans>"]
CONFIG = ChatConfig(
    llm=CPMBeeConfig(vocab_size=8, dim_model=16, dim_ff=24, num_layers=1, num_heads=2, dim_head=8),
    vision=VisionConfig(
        image_size_px=30, patch_size_px=10, width=20, num_heads=5, dim_ff=24, num_layers=2, num_query_positions=9
    ),
    num_query_tokens=4,
)


@pytest.fixture
def fixtures(tmp_path: Path) -> Fixtures:
    """A folder as the reference lays it out, with other sizes than any reference set."""
    model = random_chat(CONFIG, "cpu", torch.float32, seed=4).half()
    tensors = {published_name("chat", ours): tensor for ours, tensor in model.state_dict().items()}
    torch.save(tensors, tmp_path / "chat_checkpoint.pt")
    write_json(tmp_path / "chat_config.json", CONFIG.to_published() | {"image_size": 30})
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY))
    _write_pictures(tmp_path)
    _write_numbers(tmp_path)
    return Fixtures(tmp_path, torch.device("cpu"), torch.float32)


def _write_pictures(folder: Path) -> None:
    generator = np.random.default_rng(0)
    (folder / "images").mkdir()
    pictures = [Image.fromarray(generator.integers(0, 256, (50, 70, channels), np.uint8)) for channels in (3, 4)]
    resized = []
    for number, picture in enumerate(pictures):
        picture.save(folder / "images" / f"image{number}.png")
        resized.append(np.array(picture.convert("RGB").resize((30, 30), Image.Resampling.BICUBIC)))
    every_byte = torch.arange(256) / 255
    numbers = {"resized_uint8": torch.from_numpy(np.stack(resized)), "pixel_value_of_byte": (every_byte - 0.5) / 0.5}
    save_file(numbers, folder / "preprocess.safetensors")


def _write_numbers(folder: Path) -> None:
    pixels = normalise(load_file(folder / "preprocess.safetensors")["resized_uint8"])
    for file, dtype in (("vision.safetensors", torch.float32), ("half.safetensors", torch.float16)):
        model = load_chat(folder / "chat_checkpoint.pt", dtype=dtype).model
        outputs: list[torch.Tensor] = []
        queries = model.vision_encoder(pixels.to(dtype), model.query_tokens, outputs)
        numbers = {"tower_output": queries, "mapped": model.projector(queries)}
        if dtype == torch.float32:
            numbers["patch_and_cls_embedding"] = model.vision_encoder.embed_patches(pixels[:1])
            numbers["tower_output_without_queries_image0"] = model.vision_encoder.encode_image(pixels[:1])
            numbers["encoder_input_image0"] = outputs[0][0].clone()
            numbers |= {f"layer{number}_output_image0": output[0].clone() for number, output in enumerate(outputs[1:])}
        save_file(numbers, folder / file)


def failed_lines(fixtures: Fixtures, capsys: pytest.CaptureFixture[str]) -> list[str]:
    report = Report()
    for check in vision.CHECKS.values():
        check(fixtures, report)
    printed = capsys.readouterr().out.splitlines()
    assert len([line for line in printed if not line.endswith("noted")]) == report.lines
    failed = [line[:72].rstrip() for line in printed if line.endswith("FAIL")]
    assert len(failed) == report.failures
    return failed


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_models_own_numbers_pass(
    fixtures: Fixtures, dtype: torch.dtype, capsys: pytest.CaptureFixture[str]
) -> None:
    fixtures.dtype = dtype
    assert failed_lines(fixtures, capsys) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "name", "line"),
    [
        ("preprocess.safetensors", "pixel_value_of_byte", "preprocess value of byte"),
        ("vision.safetensors", "patch_and_cls_embedding", "vision patch_and_cls_embedding"),
        ("vision.safetensors", "encoder_input_image0", "vision encoder_input"),
        ("vision.safetensors", "layer1_output_image0", "vision layer1"),
        ("vision.safetensors", "tower_output", "vision tower_output"),
        ("vision.safetensors", "mapped", "vision mapped"),
        ("vision.safetensors", "tower_output_without_queries_image0", "vision without queries"),
        ("half.safetensors", "tower_output", "half tower_output"),
        ("half.safetensors", "mapped", "half mapped"),
    ],
)
def test_one_value_that_is_off_fails_its_line(
    fixtures: Fixtures, file: str, name: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = {key: tensor.clone() for key, tensor in load_file(fixtures.path(file)).items()}
    numbers[name].view(-1)[-1] += 0.1
    save_file(numbers, fixtures.path(file))
    assert failed_lines(fixtures, capsys) == [line]


@pytest.mark.slow
def test_a_picture_that_resizes_to_other_bytes_fails(fixtures: Fixtures, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = Image.open(fixtures.path("images/image1.png")).convert("RGB").transpose(Image.Transpose.ROTATE_180)
    pixels.save(fixtures.path("images/image1.png"))
    assert failed_lines(fixtures, capsys) == ["preprocess resized image1: differing bytes"]
