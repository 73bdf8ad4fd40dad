"""Pictures for the image screens' tests: drawn the same everywhere."""

import math

from PIL import Image, ImageDraw


def scene(width_px: int, height_px: int, seed: int = 0) -> Image.Image:
    """A coloured gradient with discs on it."""
    picture = Image.merge(
        "RGB",
        [
            Image.linear_gradient("L").rotate(90 * turn).resize((width_px, height_px))
            for turn in (seed, seed + 1, seed + 2)
        ],
    )
    draw = ImageDraw.Draw(picture)
    for number in range(5):
        x, y = (0.5 + 0.35 * f(number + seed) for f in (math.sin, math.cos))
        centre, radius = (x * width_px, y * height_px), min(width_px, height_px) / 8
        box = (centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius)
        draw.ellipse(box, fill=((50 * number) % 256, (90 + 70 * seed) % 256, (200 - 40 * number) % 256))
    return picture
