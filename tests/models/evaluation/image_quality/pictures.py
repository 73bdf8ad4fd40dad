"""Random pictures, captions and a random network of features for tests."""

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

CPU = torch.device("cpu")
CAPTIONS = ["a cat", "the dog", "a red house", "dog on the cat", "two cats"]


class TinyFeatures(nn.Module):
    """Six features of a small random convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2)
        self.second = nn.Conv2d(8, 6, 3, stride=2)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(pixels.float() / 8))).mean((2, 3))


def save_script(module: nn.Module, file: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module).save(file)
    return file


def write_pictures(folder: Path, count: int, seed: int, size: tuple[int, int] = (48, 32), tint: int = 0) -> Path:
    """Random pictures 000000.png and so on; `size` is (height, width)."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for i in range(count):
        pixels = np.clip(rng.integers(0, 256 - tint, (*size, 3)) + tint * rng.random(3), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:06}.png")
    return folder


def write_captions(folder: Path, captions: list[str] = CAPTIONS) -> Path:
    file = folder / "captions.txt"
    file.write_text("\n".join(captions) + "\n", encoding="utf-8")
    return file
