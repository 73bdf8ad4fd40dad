"""A kept picture as a file."""

import io
import random

from PIL import Image

from service.image_output.kept_picture import png_of


def test_its_pixels_come_back_byte_for_byte() -> None:
    rgb = random.Random(3).randbytes(28 * 28 * 3)
    with Image.open(io.BytesIO(png_of(rgb, 28))) as opened:
        assert (opened.format, opened.mode, opened.size) == ("PNG", "RGB", (28, 28))
        assert opened.tobytes() == rgb
