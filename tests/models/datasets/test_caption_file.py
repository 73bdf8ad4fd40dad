"""Captioned pictures of a file: read, cut square, refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.datasets.caption_file import CaptionFile

SIDE_PX = 8


def write(folder: Path, **pictures: Image.Image) -> Path:
    """Pictures under their names, each captioned by its own, and the JSON file."""
    for name, picture in pictures.items():
        picture.save(folder / f"{name}.png")
    file = folder / "captions.json"
    rows = [{"image": f"{name}.png", "caption": f"图 {name}"} for name in pictures]
    file.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return file


def striped(width: int, height: int) -> Image.Image:
    """Red, with a green square of the shorter side in its middle."""
    picture = Image.new("RGB", (width, height), (255, 0, 0))
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    picture.paste((0, 255, 0), (left, top, left + side, top + side))
    return picture


def test_pictures_and_captions_come_in_the_files_order(tmp_path: Path) -> None:
    file = write(tmp_path, b=Image.new("RGB", (9, 9), "blue"), a=Image.new("L", (4, 4), 77))
    source = CaptionFile.read(file, tmp_path, SIDE_PX)
    assert len(source) == 2
    first, second = source.picture(0, 0), source.picture(1, 5)
    assert (first.caption, second.caption) == ("图 b", "图 a")
    assert first.pixels.shape == second.pixels.shape == (SIDE_PX, SIDE_PX, 3)
    assert first.pixels.dtype == np.uint8
    assert np.unique(first.pixels.reshape(-1, 3), axis=0).tolist() == [[0, 0, 255]]
    assert np.unique(second.pixels).tolist() == [77], "a grey picture has three equal channels"
    assert np.array_equal(source.picture(0, 3).pixels, first.pixels), "the same in every epoch"


@pytest.mark.parametrize("size", [(40, 16), (16, 40), (17, 16), (16, 16)])
def test_the_middle_square_is_what_is_left(tmp_path: Path, size: tuple[int, int]) -> None:
    source = CaptionFile.read(write(tmp_path, a=striped(*size)), tmp_path, SIDE_PX)
    pixels = source.picture(0, 0).pixels
    assert (pixels[1:-1, 1:-1] == (0, 255, 0)).all()
    # Smoothing looks a little over the edge of the square
    assert np.abs(pixels.astype(int) - (0, 255, 0)).max() < 32


def test_a_turned_picture_is_upright(tmp_path: Path) -> None:
    """As the service, the evaluation and the other source of files read it."""
    turned = Image.new("RGB", (16, 16), "blue")
    turned.paste((255, 0, 0), (0, 0, 8, 16))
    file = write(tmp_path, a=turned)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    turned.save(tmp_path / "a.png", exif=exif)
    pixels = CaptionFile.read(file, tmp_path, SIDE_PX).picture(0, 0).pixels
    assert (pixels[0] == (255, 0, 0)).all() and (pixels[-1] == (0, 0, 255)).all()


@pytest.mark.parametrize("kept_bytes", [0, 7, 60, 1500])
def test_a_file_that_is_no_picture_is_named_when_it_is_read(tmp_path: Path, kept_bytes: int) -> None:
    noise = Image.effect_noise((64, 64), 90)
    source = CaptionFile.read(write(tmp_path, a=noise), tmp_path, SIDE_PX)
    content = (tmp_path / "a.png").read_bytes()
    assert len(content) > 2000
    (tmp_path / "a.png").write_bytes(content[:kept_bytes])
    with pytest.raises(ValueError, match=r"a\.png: not a readable picture \("):
        source.picture(0, 0)


def test_files_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "captions.json"
    for text, message in (
        ('{"image": "a.png"}', "expected a list"),
        ("[]", "holds no pictures"),
        ('[{"image": "a.png", "caption": "x"}]', "missing, such as a.png"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            CaptionFile.read(file, tmp_path, SIDE_PX)
    file.write_text("[")
    with pytest.raises(ValueError, match=r"captions\.json: expected a list of"):
        CaptionFile.read(file, tmp_path, SIDE_PX)
