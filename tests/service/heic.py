"""HEIC files, written by pillow-heif."""

import importlib
import io
from typing import Any

from PIL import Image


def heic(picture: Image.Image, *others: Image.Image, **options: Any) -> bytes:
    """Lossless; `others` are further pictures of the same file."""
    encoder = importlib.import_module("pillow_heif")
    pictures = encoder.from_pillow(picture)
    for other in others:
        pictures.add_from_pillow(other)
    target = io.BytesIO()
    pictures.save(target, **{"quality": -1, "chroma": 444, **options})
    return target.getvalue()
