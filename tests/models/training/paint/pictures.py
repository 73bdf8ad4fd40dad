"""Tiny captioned pictures, a tiny VAE and a tiny Paint model, for the tests of what trains them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from models.datasets.examples import CaptionedPicture
from models.training.paint.vae import random_vae
from tests.models.training_files import VOCABULARY

SIDE_PX = 32
VAE_SIZES = {
    "block_out_channels": [8, 8, 8, 8],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "latent_channels": 4,
    "layers_per_block": 1,
    "mid_block_add_attention": False,
    "norm_num_groups": 2,
    "sample_size": SIDE_PX,
}
PAINT_SIZES: dict[str, Any] = {
    "llm": {"dim_model": 16, "dim_ff": 24, "num_layers": 1, "num_heads": 2, "dim_head": 8},
    "unet": {
        "attention_head_dim": [2, 2],
        "block_out_channels": [8, 16],
        "cross_attention_dim": 16,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "sample_size": SIDE_PX // 8,
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    },
}
CAPTIONS = ("red", "It is green", "图是 a < b", "What is blue")


class Squares:
    """A picture source: a coloured square at a place that depends on the index, the same in every epoch."""

    def __init__(self, count: int = 8) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def picture(self, index: int, epoch: int) -> CaptionedPicture:
        rng = np.random.default_rng(index)
        pixels = np.full((SIDE_PX, SIDE_PX, 3), rng.integers(256, size=3), dtype=np.uint8)
        left, top = rng.integers(SIDE_PX // 2, size=2)
        pixels[top : top + 12, left : left + 12] = rng.integers(256, size=3)
        return CaptionedPicture(pixels, CAPTIONS[index % len(CAPTIONS)])


def write_pictures(folder: Path, count: int = 8) -> list[str]:
    """Squares as files; the flags that name them."""
    source = Squares(count)
    rows = []
    folder.mkdir(parents=True)
    for index in range(count):
        example = source.picture(index, 0)
        Image.fromarray(example.pixels).save(folder / f"{index}.png")
        rows.append({"image": f"{index}.png", "caption": example.caption})
    (folder / "captions.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return ["--data", str(folder / "captions.json"), "--images", str(folder)]


def write_start(folder: Path) -> dict[str, Path]:
    """Files to train Paint from random weights with: `sizes`, `vocabulary`, `vae` with a scaling factor of its own."""
    folder.mkdir(parents=True)
    files = {"sizes": folder / "paint.json", "vocabulary": folder / "vocab.txt", "vae": folder / "vae"}
    files["sizes"].write_text(json.dumps(PAINT_SIZES))
    files["vocabulary"].write_text("\n".join([*VOCABULARY, "caption", "objects"]), encoding="utf-8")
    vae = random_vae(VAE_SIZES, seed=1)
    vae.register_to_config(scaling_factor=0.7)
    vae.save_pretrained(files["vae"])
    return files
