"""Pictures in folders: found in order, read upright in RGB, brought to one size, refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models.evaluation.errors import EvaluationError
from models.evaluation.picture_files import list_pictures, read_picture, square, to_tensor

RED, BLUE = (255, 0, 0), (0, 0, 255)
TURNED = 6  # EXIF: to be turned by 90 degrees clockwise


def halves(width: int, height: int) -> Image.Image:
    """Red on the left, blue on the right."""
    picture = Image.new("RGB", (width, height), RED)
    picture.paste(BLUE, (width // 2, 0, width, height))
    return picture


def test_pictures_are_found_by_name_whatever_the_case_of_their_suffix(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpeg", "c.webp", "notes.txt", "d.gif", "png"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "e.png").write_bytes(b"")
    assert [file.name for file in list_pictures(tmp_path)] == ["a.jpeg", "b.PNG", "c.webp"]


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"holds no pictures \(\.png, \.jpg, "):
        list_pictures(tmp_path)
    with pytest.raises(EvaluationError, match="nowhere: no folder of pictures"):
        list_pictures(tmp_path / "nowhere")


def test_a_turned_picture_is_read_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = TURNED
    halves(8, 4).save(tmp_path / "a.png", exif=exif)
    picture = read_picture(tmp_path / "a.png")
    assert picture.size == (4, 8)
    assert (picture.getpixel((0, 0)), picture.getpixel((0, 7))) == (RED, BLUE)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    file = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.new("RGB", (5, 3), "white").convert(mode).save(file)
    picture = read_picture(file)
    assert (picture.mode, picture.size) == ("RGB", (5, 3))
    assert min(picture.getpixel((2, 1))) > 250  # type: ignore[type-var, arg-type]


@pytest.mark.parametrize("content", [b"", b"nothing", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(EvaluationError, match=r"a\.png: cannot be read as a picture: "):
        read_picture(tmp_path / "a.png")


def test_half_a_picture_is_none(tmp_path: Path) -> None:
    Image.effect_noise((64, 64), 90).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(EvaluationError, match=r"a\.png: cannot be read as a picture: "):
        read_picture(tmp_path / "a.png")


def test_a_picture_of_more_pixels_than_pillow_unpacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    halves(64, 64).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(EvaluationError, match=r"a\.png: cannot be read as a picture: Image size \(4096 pixels\)"):
        read_picture(tmp_path / "a.png")


def test_the_largest_square_of_the_middle_is_kept() -> None:
    picture = Image.new("RGB", (60, 20), "white")
    picture.paste(halves(20, 20), (20, 0))
    small = square(picture, 10)
    assert small.size == (10, 10)
    assert (small.getpixel((1, 5)), small.getpixel((8, 5))) == (RED, BLUE)


def test_a_picture_of_the_right_size_is_left_as_it_is() -> None:
    picture = halves(6, 6)
    assert square(picture, 6) is picture


def test_a_tensor_has_channels_first() -> None:
    tensor = to_tensor(halves(4, 2))
    assert (tensor.dtype, tuple(tensor.shape), tensor.is_contiguous()) == (torch.uint8, (3, 2, 4), True)
    assert tensor[:, 0, 0].tolist() == list(RED) and tensor[:, 1, 3].tolist() == list(BLUE)
    np.testing.assert_array_equal(tensor.permute(1, 2, 0).numpy(), np.asarray(halves(4, 2)))
