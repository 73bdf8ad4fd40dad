"""Pictures in folders: found, read upright in RGB, and brought to one size."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from models.evaluation.errors import EvaluationError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def list_pictures(folder: Path) -> list[Path]:
    """The pictures right in a folder, by name. Raises EvaluationError without any."""
    if not folder.is_dir():
        raise EvaluationError(f"{folder}: no folder of pictures")
    found = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)
    if not found:
        raise EvaluationError(f"{folder}: holds no pictures ({', '.join(SUFFIXES)})")
    return found


def read_picture(file: Path) -> Image.Image:
    """A picture file upright and in RGB. Raises EvaluationError for anything else."""
    try:
        with Image.open(file) as picture:
            return ImageOps.exif_transpose(picture).convert("RGB")
    except (OSError, Image.DecompressionBombError) as error:  # Pillow's own for an unknown format is an OSError
        raise EvaluationError(f"{file}: cannot be read as a picture: {error}") from None


def square(picture: Image.Image, side_px: int) -> Image.Image:
    """The largest square of its middle, resized with smoothing."""
    if picture.size == (side_px, side_px):
        return picture
    return ImageOps.fit(picture, (side_px, side_px), Image.Resampling.BICUBIC)


def to_tensor(picture: Image.Image) -> Tensor:
    """(3, H, W) uint8."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()
