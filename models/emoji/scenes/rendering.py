"""From a scene to its picture."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.datasets.examples import Pixels
from models.emoji.scenes.renderer import Studio
from models.emoji.scenes.scene import Ground, Scene

_NUM_NOISE_OFFSETS = 65536


def render(studio: Studio, scene: Scene, side_px: int) -> Pixels:
    """The scene's picture, (S, S, 3) uint8."""
    canvas = Image.fromarray(_ground_pixels(scene.ground, side_px))
    for placed in scene.objects:
        image = _scaled(studio.drawings[placed.style].drawing(placed.name.code), round(placed.size * side_px))
        if placed.angle_deg:
            image = image.rotate(placed.angle_deg, Image.Resampling.BILINEAR, expand=True)
        left = round(placed.centre[0] * side_px - image.width / 2)
        top = round(placed.centre[1] * side_px - image.height / 2)
        canvas.paste(image, (left, top), image)
    pixels = np.asarray(canvas)
    return _with_noise(pixels, scene.noise, scene.noise_seed) if scene.noise else pixels.copy()


def _scaled(image: Image.Image, side_px: int) -> Image.Image:
    scale = side_px / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.BICUBIC)


@lru_cache(maxsize=4)
def _grid(side_px: int) -> NDArray[np.float32]:
    return np.linspace(-1, 1, side_px, dtype=np.float32)


def _ground_pixels(ground: Ground, side_px: int) -> Pixels:
    start, end = np.asarray(ground.start, dtype=np.float32), np.asarray(ground.end, dtype=np.float32)
    if ground.start == ground.end:
        return np.full((side_px, side_px, 3), ground.start, dtype=np.uint8)
    direction = np.deg2rad(ground.direction_deg)
    across, down = float(np.cos(direction)), float(np.sin(direction))
    grid = _grid(side_px)
    share = 0.5 + (grid[None, :] * across + grid[:, None] * down) / (2 * (abs(across) + abs(down)))  # (S, S) in 0..1
    return (start + share[..., None] * (end - start) + 0.5).astype(np.uint8)


@lru_cache(maxsize=4)
def _noise_table(side_px: int) -> NDArray[np.float32]:
    """Standard normal numbers, more than a picture needs; drawing them anew would take most of a picture's time."""
    return np.random.default_rng(0).standard_normal(side_px * side_px * 3 + _NUM_NOISE_OFFSETS, dtype=np.float32)


def _with_noise(pixels: Pixels, deviation: float, seed: int) -> Pixels:
    offset = seed % _NUM_NOISE_OFFSETS
    noise = _noise_table(pixels.shape[0])[offset : offset + pixels.size].reshape(pixels.shape)
    return np.clip(pixels + noise * np.float32(deviation) + 0.5, 0, 255).astype(np.uint8)
