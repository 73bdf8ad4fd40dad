"""Random changes of pictures in training, those of the release (SPEC §9), drawn from a generator that is passed in."""

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from models.datasets.examples import PixelArray

CROP_AREA = (0.5, 1.0)  # shares of the picture
CROP_ASPECT = (3 / 4, 4 / 3)
CROP_TRIES = 10
FLIP_PROBABILITY = 0.5
NUM_OPERATIONS = 2
OPERATION_PROBABILITY = 0.5
STRENGTH = 0.7  # 7 of 10
MAX_ROTATION_DEGREES = 30
MAX_SHEAR = 0.3
MAX_SHIFT_PX = 10
_GREY = (128, 128, 128)

Operation = Callable[[Image.Image, np.random.Generator], Image.Image]


def augment(picture: Image.Image, side_px: int, rng: np.random.Generator) -> PixelArray:
    """An RGB picture of any size, cropped, flipped and changed -> (side_px, side_px, 3) uint8."""
    box = crop_box(picture.width, picture.height, rng)
    changed = picture.resize((side_px, side_px), Image.Resampling.BICUBIC, box)
    if rng.random() < FLIP_PROBABILITY:
        changed = ImageOps.mirror(changed)
    for operation in rng.choice(len(OPERATIONS), NUM_OPERATIONS):
        if rng.random() < OPERATION_PROBABILITY:
            changed = OPERATIONS[operation](changed, rng)
    return np.array(changed)


def crop_box(width: int, height: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """A random part of half the area to all of it; its middle square-like part where none fits in ten tries."""
    low, high = map(math.log, CROP_ASPECT)
    for _ in range(CROP_TRIES):
        area = width * height * rng.uniform(*CROP_AREA)
        aspect = math.exp(rng.uniform(low, high))
        crop_width, crop_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            left = int(rng.integers(width - crop_width + 1))
            top = int(rng.integers(height - crop_height + 1))
            return left, top, left + crop_width, top + crop_height
    crop_width = min(width, round(height * CROP_ASPECT[1]))
    crop_height = min(height, round(width / CROP_ASPECT[0]))
    left, top = (width - crop_width) // 2, (height - crop_height) // 2
    return left, top, left + crop_width, top + crop_height


def _either_way(amount: float, rng: np.random.Generator) -> float:
    return amount if rng.random() < 0.5 else -amount


def _moved(picture: Image.Image, across: tuple[float, float, float], down: tuple[float, float, float]) -> Image.Image:
    """Every pixel taken from where an affine map points; what comes from outside is grey."""
    data = (*across, *down)
    return picture.transform(picture.size, Image.Transform.AFFINE, data, Image.Resampling.BILINEAR, fillcolor=_GREY)


def _unchanged(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    return picture


def _autocontrast(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    return ImageOps.autocontrast(picture)


def _equalize(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    return ImageOps.equalize(picture)


def _enhancement() -> float:
    return 0.1 + 1.8 * STRENGTH


def _brightness(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    return ImageEnhance.Brightness(picture).enhance(_enhancement())


def _sharpness(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    return ImageEnhance.Sharpness(picture).enhance(_enhancement())


def _shear_x(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    return _moved(picture, (1, _either_way(MAX_SHEAR * STRENGTH, rng), 0), (0, 1, 0))


def _shear_y(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    return _moved(picture, (1, 0, 0), (_either_way(MAX_SHEAR * STRENGTH, rng), 1, 0))


def _shift_x(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    return _moved(picture, (1, 0, _either_way(MAX_SHIFT_PX * STRENGTH, rng)), (0, 1, 0))


def _shift_y(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    return _moved(picture, (1, 0, 0), (0, 1, _either_way(MAX_SHIFT_PX * STRENGTH, rng)))


def _rotated(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    angle = _either_way(MAX_ROTATION_DEGREES * STRENGTH, rng)
    return picture.rotate(angle, Image.Resampling.BILINEAR, fillcolor=_GREY)


OPERATIONS: tuple[Operation, ...] = (
    _unchanged,
    _autocontrast,
    _equalize,
    _brightness,
    _sharpness,
    _shear_x,
    _shear_y,
    _shift_x,
    _shift_y,
    _rotated,
)
