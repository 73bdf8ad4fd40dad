"""The vision tower against the reference: resize, normalisation, every layer, mapped features, half precision."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from models.checkpoints.loading import load_chat
from models.networks.chat.model import ChatModel
from models.networks.vision.preprocess import normalise
from models.parity.fixtures import Fixtures
from models.parity.report import Report

# For float16 those of SPEC §16; bfloat16 is eight times coarser.
OUTPUT_LIMITS = {torch.float32: 1e-3, torch.float16: 0.03, torch.bfloat16: 0.24}  # tower and mapped features
HIDDEN_LIMITS = {torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.4}  # the sums inside the tower
NUM_BYTES = 256


def check_preprocess(fixtures: Fixtures, report: Report) -> None:
    """PIL's bicubic resize bit for bit, and the value of every byte (SPEC §5)."""
    expected = fixtures.tensors("preprocess.safetensors")
    for number, resized in enumerate(expected["resized_uint8"]):
        name = f"images/image{number}.png"
        if fixtures.has(name):
            got = resize(fixtures, name, resized.shape[0])
            report.exact(f"preprocess resized image{number}: differing bytes", int((got != resized).sum()), 0)
        else:
            report.note(f"preprocess resized image{number}", "left out")
    every_byte = torch.arange(NUM_BYTES, dtype=torch.uint8).view(1, NUM_BYTES, 1, 1).expand(-1, -1, -1, 3)
    values = normalise(every_byte.to(fixtures.device))[0, :, :, 0]  # (3, 256)
    report.difference("preprocess value of byte", values, expected["pixel_value_of_byte"].expand(3, -1), 1e-6)


def check_tower(fixtures: Fixtures, report: Report) -> None:
    """Embeddings, every layer, the tower with and without query tokens, and the mapped features (SPEC §5)."""
    expected = fixtures.tensors("vision.safetensors")
    hidden_limit, limit = HIDDEN_LIMITS[fixtures.dtype], OUTPUT_LIMITS[fixtures.dtype]
    model = load_model(fixtures, fixtures.dtype)
    tower, pixels = model.vision_encoder, load_pixels(fixtures, fixtures.dtype)
    layer_outputs: list[Tensor] = []
    with torch.no_grad():
        patches = tower.embed_patches(pixels[:1])
        queries = tower(pixels, model.query_tokens, layer_outputs)
        image = tower.encode_image(pixels[:1])
        mapped = model.projector(queries)
    encoder_input, *layers = (output[0] for output in layer_outputs)
    report.difference("vision patch_and_cls_embedding", patches, expected["patch_and_cls_embedding"], hidden_limit)
    report.difference("vision encoder_input", encoder_input, expected["encoder_input_image0"], hidden_limit)
    for number, output in enumerate(layers):
        report.difference(f"vision layer{number}", output, expected[f"layer{number}_output_image0"], hidden_limit)
    report.difference("vision tower_output", queries, expected["tower_output"], limit)
    report.difference("vision mapped", mapped, expected["mapped"], limit)
    report.difference("vision without queries", image, expected["tower_output_without_queries_image0"], limit)


def check_half(fixtures: Fixtures, report: Report) -> None:
    """Tower and mapped features in float16 against the reference's own float16 run (SPEC §16)."""
    expected = fixtures.tensors("half.safetensors")
    model = load_model(fixtures, torch.float16)
    with torch.no_grad():
        queries = model.vision_encoder(load_pixels(fixtures, torch.float16), model.query_tokens)
        mapped = model.projector(queries)
    report.difference("half tower_output", queries, expected["tower_output"], OUTPUT_LIMITS[torch.float16])
    report.difference("half mapped", mapped, expected["mapped"], OUTPUT_LIMITS[torch.float16])


def resize(fixtures: Fixtures, name: str, side_px: int) -> Tensor:
    """A picture of the folder as the model takes it: (S, S, 3) uint8."""
    with Image.open(fixtures.path(name)) as picture:
        resized = picture.convert("RGB").resize((side_px, side_px), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(resized))


def load_pixels(fixtures: Fixtures, dtype: torch.dtype) -> Tensor:
    """The reference's own resized pictures, so that a different resize shows in one place only: (B, 3, S, S)."""
    resized = fixtures.tensors("preprocess.safetensors")["resized_uint8"]
    return normalise(resized.to(fixtures.device)).to(dtype)


def load_model(fixtures: Fixtures, dtype: torch.dtype) -> ChatModel:
    names = ("chat_checkpoint.safetensors", "chat_checkpoint.pt")
    name = next((name for name in names if fixtures.has(name)), names[0])
    config = fixtures.path("chat_config.json")
    return load_chat(fixtures.path(name), device=fixtures.device, dtype=dtype, config=config).model


CHECKS: dict[str, Callable[[Fixtures, Report], Any]] = {
    "preprocess.safetensors": check_preprocess,
    "vision.safetensors": check_tower,
    "half.safetensors": check_half,
}
COVERS: dict[str, tuple[str, ...]] = {
    "preprocess.safetensors": ("preprocess.safetensors", "images/image*.png"),
    "vision.safetensors": ("vision.safetensors", "chat_config.json"),
    "half.safetensors": ("half.safetensors",),
}
