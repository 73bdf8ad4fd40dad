"""Pixels as the screens get them, and that every screen is one."""

from collections.abc import Sequence
from inspect import signature

import pytest
from PIL import Image

from safety.image.compvis import CompVisChecker
from safety.image.onnx import ImageSafetyClassifier, OpenNsfw
from safety.image.screen import ImageScreen, Pixels
from safety.policy import IMAGE_SCREENS
from tests.safety.pictures import scene


def test_rows_come_first_and_colours_stay_apart() -> None:
    image = Pixels(bytes(range(18)), 3, 2).image()
    assert image.size == (3, 2) and image.mode == "RGB"
    assert image.getpixel((0, 0)) == (0, 1, 2)
    assert image.getpixel((2, 0)) == (6, 7, 8)
    assert image.getpixel((0, 1)) == (9, 10, 11)


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (64, 48)])
def test_a_picture_comes_back_pixel_for_pixel(size: tuple[int, int]) -> None:
    picture = scene(*size)
    assert Pixels(picture.tobytes(), *size).image().tobytes() == picture.tobytes()


@pytest.mark.parametrize("count_bytes", [0, 11])
def test_pixels_that_are_too_few_are_no_picture(count_bytes: int) -> None:
    with pytest.raises(ValueError, match="not enough image data"):
        Pixels(bytes(count_bytes), 2, 2).image()


@pytest.mark.parametrize("kind", [CompVisChecker, ImageSafetyClassifier, OpenNsfw])
def test_every_screen_has_the_shape_and_a_name_that_the_policy_knows(kind: type[ImageScreen]) -> None:
    assert kind.name in IMAGE_SCREENS
    assert list(signature(kind.scores).parameters) == list(signature(ImageScreen.scores).parameters)
    assert signature(kind.scores).return_annotation == signature(ImageScreen.scores).return_annotation
    assert Sequence[Image.Image] in (one.annotation for one in signature(kind.scores).parameters.values())
