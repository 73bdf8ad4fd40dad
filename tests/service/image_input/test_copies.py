"""Copies of a picture are known as such; pictures that differ in a little are not.

Figures over many pictures: benchmarks/picture_copies.py.
"""

import io
import random

import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from service.image_input.copies import is_copy

SIDE_PX = 224


def scene(digit: str = "3", colour: str = "navy") -> Image.Image:
    """1000×800: a ground that changes slowly, shapes, noise, and a digit that is 10 px high for the model."""
    ground = Image.linear_gradient("L").resize((1000, 800))
    picture = Image.merge("RGB", (ground, ground.rotate(180), Image.new("L", ground.size, 120)))
    noise = Image.frombytes("L", (250, 200), random.Random(3).randbytes(50_000)).resize((1000, 800))
    picture = Image.blend(picture, Image.merge("RGB", (noise,) * 3), 0.1).filter(ImageFilter.GaussianBlur(1))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((600, 100, 850, 300), fill="teal")
    draw.ellipse((150, 400, 400, 650), fill="orange")
    draw.text((700, 600), digit, fill=colour, font_size=60)
    return picture


def pixels(picture: Image.Image, side_px: int = SIDE_PX) -> bytes:
    return picture.resize((side_px, side_px), Image.Resampling.BICUBIC).tobytes()


def compressed(picture: Image.Image, kind: str, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, kind, quality=quality)
    return Image.open(buffer).convert("RGB")


@pytest.mark.slow
@pytest.mark.parametrize("side_px", [64, SIDE_PX])
@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
@pytest.mark.parametrize("quality", [75, 85, 95])
def test_a_compressed_copy_is_one(kind: str, quality: int, side_px: int) -> None:
    sent = pixels(compressed(scene(), kind, quality), side_px)
    assert sent != pixels(scene(), side_px)
    assert is_copy(pixels(scene(), side_px), sent, side_px)


@pytest.mark.slow
@pytest.mark.parametrize("factor", [0.5, 2])
def test_a_resized_copy_is_one(factor: float) -> None:
    resized = scene().resize((int(1000 * factor), int(800 * factor)), Image.Resampling.LANCZOS)
    assert is_copy(pixels(scene()), pixels(resized), SIDE_PX)


@pytest.mark.slow
@pytest.mark.parametrize("quality", [0, 75, 90])
@pytest.mark.parametrize(
    "other",
    [
        scene("8"),
        scene("5"),
        scene(""),
        scene(colour="darkred"),
        scene().transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        ImageEnhance.Brightness(scene()).enhance(0.8),
        scene().rotate(1),
    ],
    ids=["8", "5", "nothing", "colour", "mirrored", "darker", "turned"],
)
def test_another_picture_is_none_however_little_differs(other: Image.Image, quality: int) -> None:
    sent = compressed(other, "JPEG", quality) if quality else other
    assert not is_copy(pixels(scene()), pixels(sent), SIDE_PX)
    assert not is_copy(pixels(sent), pixels(scene()), SIDE_PX)


def test_colour_counts_where_brightness_is_the_same() -> None:
    red, green = (Image.new("RGB", (64, 64), colour) for colour in ((200, 60, 60), (60, 131, 60)))
    assert abs(red.convert("L").getpixel((0, 0)) - green.convert("L").getpixel((0, 0))) <= 1  # type: ignore[operator]
    spot = red.copy()
    spot.paste(green.crop((0, 0, 8, 8)), (40, 40))
    assert not is_copy(red.tobytes(), spot.tobytes(), 64)


def test_pictures_of_another_size_and_none_at_all_are_no_copies() -> None:
    assert not is_copy(bytes(12), bytes(27), 2) and not is_copy(b"", bytes(12), 2)
    assert is_copy(bytes(12), bytes(12), 2) and not is_copy(bytes(12), b"\xff" * 12, 2)
