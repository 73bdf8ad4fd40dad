"""Pictures of every kind and every way to break one, against limits and against the reference's pixels."""

import base64
import io
import os
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from service.errors import (
    ImageFetchDisabled,
    ImageTooLarge,
    InvalidBase64,
    InvalidImage,
    ServiceError,
)
from service.decoding import to_pixels
from service.images import ImageIntake, decode_base64
from service.settings import Settings

SIDE_PX = 16
LIMIT_PX = 1_000_000


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    target = io.BytesIO()
    picture.save(target, kind, **options)
    return target.getvalue()


def photo(width_px: int = 40, height_px: int = 30) -> Image.Image:
    """Differs in every corner, so that a wrong turn is seen."""
    picture = Image.linear_gradient("L").resize((width_px, height_px))
    return Image.merge("RGB", (picture, picture.transpose(Image.Transpose.ROTATE_180), Image.new("L", picture.size, 9)))


def expected(picture: Image.Image) -> bytes:
    return picture.convert("RGB").resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC).tobytes()


def png_header(width_px: int, height_px: int, bit_depth: int = 1, colour_type: int = 0) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    ihdr = struct.pack(">IIBBBBB", width_px, height_px, bit_depth, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", ihdr) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_lossless_formats_give_the_resized_pixels(kind: str) -> None:
    assert to_pixels(encoded(photo(), kind), SIDE_PX, LIMIT_PX) == expected(photo())


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF"])
def test_other_formats_give_what_pillow_decodes(kind: str) -> None:
    data = encoded(photo(), kind)
    assert to_pixels(data, SIDE_PX, LIMIT_PX) == expected(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA"])
def test_modes_are_converted(mode: str) -> None:
    picture = photo().convert("RGBA" if mode == "RGBA" else "L" if mode in ("1", "L", "LA") else "P")
    picture = picture.convert(mode) if mode != "PA" else picture
    assert to_pixels(encoded(picture, "PNG"), SIDE_PX, LIMIT_PX) == expected(picture)


def test_alpha_is_dropped_not_blended() -> None:
    clear = Image.new("RGBA", (8, 8), (10, 200, 30, 0))
    assert to_pixels(encoded(clear, "PNG"), 2, LIMIT_PX) == bytes([10, 200, 30] * 4)


def test_cmyk_is_converted() -> None:
    data = encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")
    red, green, blue = to_pixels(data, 1, LIMIT_PX)
    assert red > 240 and green < 20 and blue < 20


def test_16_bit_grey_is_scaled_not_clipped() -> None:
    for value, grey in ((0, 0), (257, 1), (32768, 128), (65535, 255)):
        picture = Image.new("I;16", (4, 4), value)
        assert to_pixels(encoded(picture, "PNG"), 1, LIMIT_PX) == bytes([grey] * 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_cameras_turn_is_undone(orientation: int) -> None:
    turned_back = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    upright = photo()
    stored = upright if turned_back is None else upright.transpose(turned_back)
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert to_pixels(encoded(stored, "PNG", exif=exif), SIDE_PX, LIMIT_PX) == expected(upright)


def test_broken_metadata_do_not_break_the_picture() -> None:
    data = encoded(photo(), "PNG", exif=b"Exif\0\0MM\0*garbage that is no directory")
    assert to_pixels(data, SIDE_PX, LIMIT_PX) == expected(photo())


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_only_the_first_frame_of_an_animation_is_seen(kind: str) -> None:
    red, blue = (Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 0, 255)))
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(red, kind, save_all=True, append_images=[blue, blue], **options)
    assert to_pixels(data, 1, LIMIT_PX) == bytes([255, 0, 0])


def test_the_smallest_picture() -> None:
    assert to_pixels(encoded(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG"), 2, LIMIT_PX) == bytes([1, 2, 3] * 4)


@pytest.mark.parametrize(
    "data",
    [
        png_header(50_000, 50_000),
        png_header(2**31 - 1, 2**31 - 1),
        encoded(Image.new("1", (1001, 1000)), "PNG"),
        encoded(Image.new("L", (1001, 1000)), "JPEG"),
        encoded(Image.new("L", (1001, 1000)), "GIF"),
        b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xfe\x3f\0\xfe\x3f\0" + b"\0" * 20,
    ],
    ids=["png 50000", "png 2^31", "png", "jpeg", "gif", "webp 16383"],
)
def test_the_pixel_cap_holds_before_anything_is_rastered(data: bytes) -> None:
    peak_before = _peak_bytes()
    with pytest.raises((ImageTooLarge, InvalidImage)) as caught:
        to_pixels(data, SIDE_PX, LIMIT_PX)
    if b"WEBP" not in data[:16]:  # that header has no frame behind it, which may be noticed first
        assert caught.value.code == "image_too_large"
    assert _peak_bytes() - peak_before < 16 * 2**20


def _peak_bytes() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_a_picture_cut_off_is_invalid(kind: str) -> None:
    data = encoded(photo(200, 200), kind)
    for end in (12, len(data) // 2):
        with pytest.raises(InvalidImage):
            to_pixels(data[:end], SIDE_PX, LIMIT_PX)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"<html>",
        b"%PDF-1.7",
        b"GIF89a",
        b"\x89PNG\r\n\x1a\n",
    ],
)
def test_what_is_no_picture_is_invalid(data: bytes) -> None:
    with pytest.raises(InvalidImage):
        to_pixels(data, SIDE_PX, LIMIT_PX)


@pytest.mark.parametrize("kind", ["TIFF", "ICO", "PPM", "TGA", "PCX"])
def test_formats_that_are_not_on_the_list_are_invalid(kind: str) -> None:
    with pytest.raises(InvalidImage, match="PNG, JPEG, WEBP, GIF, BMP"):
        to_pixels(encoded(photo(), kind), SIDE_PX, LIMIT_PX)


def test_flipped_bytes_never_raise_anything_else() -> None:
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP"):
        data = encoded(photo(), kind)
        for position in range(0, len(data), max(1, len(data) // 60)):
            broken = bytearray(data)
            broken[position] ^= 0xFF
            try:
                to_pixels(bytes(broken), SIDE_PX, LIMIT_PX)
            except ServiceError as error:
                assert error.status == 400


def test_base64_is_strict() -> None:
    data = bytes(range(256)) * 20
    text = base64.b64encode(data).decode()
    assert decode_base64(text) == data
    for prefix in ("data:image/png;base64,", "data:;base64,", "DATA:image/jpeg;charset=x;BASE64,"):
        assert decode_base64(prefix + text) == data
    padded = base64.b64encode(b"1234").decode()
    assert decode_base64(padded) == b"1234"
    for wrong in (
        padded.rstrip("="),
        padded + "=",
        padded[:-2] + "\n==",
        " " + padded + "   ",
        "AA\nAA",
        "____",
        "-_-_",
        "A===",
        "====",
        "AA==AAAA",
        "图片图片",
        "\0\0\0\0",
        "data:image/png," + padded,
        "data:image/png;base64" + padded,
        "ftp://example.org/a.png0",
    ):
        with pytest.raises(InvalidBase64):
            decode_base64(wrong)
    for wrong in ("", "data:image/png;base64,", "data:text/html;base64,AAAA"):
        with pytest.raises(InvalidImage):
            decode_base64(wrong)


def test_large_base64_is_decoded_in_pieces() -> None:
    data = os.urandom(3 * 2**20 + 5)
    text = base64.b64encode(data).decode()
    assert decode_base64(text) == data
    middle = 2**20 - 2
    with pytest.raises(InvalidBase64):
        decode_base64(text[:middle] + "==" + text[middle + 2 :])


async def test_urls_are_not_fetched_unless_asked_for() -> None:
    intake = ImageIntake(Settings())
    for url in ("HTTPS://example.org/a.png", "file:///etc/passwd"):
        with pytest.raises(ImageFetchDisabled, match="VISCPM_FETCH_IMAGES"):
            await intake.pixels(url, SIDE_PX)
    assert intake.decodes == 0
    intake.close()


async def test_the_intake_gives_pixels_and_their_digest() -> None:
    import hashlib

    intake = ImageIntake(Settings())
    data = encoded(photo(), "PNG")
    by_text = await intake.pixels(base64.b64encode(data).decode(), SIDE_PX)
    by_bytes = await intake.pixels(data, SIDE_PX)
    assert by_text == by_bytes and by_text.rgb == expected(photo()) and intake.decodes == 2
    assert by_text.sha256 == hashlib.sha256(by_text.rgb).hexdigest()
    intake.close()


def test_the_references_pixels_bit_for_bit() -> None:
    folder = Path(os.environ.get("VISCPM_PARITY_DIR") or Path(__file__).parents[1] / "parity")
    if not (folder / "preprocess.safetensors").is_file():
        pytest.skip(f"no preprocess.safetensors in {folder}")
    data = (folder / "preprocess.safetensors").read_bytes()
    header_bytes = int.from_bytes(data[:8], "little")
    import json

    entry = json.loads(data[8 : 8 + header_bytes])["resized_uint8"]
    count, side_px, _, _ = entry["shape"]
    start, end = (8 + header_bytes + offset for offset in entry["data_offsets"])
    wanted = data[start:end]
    one = len(wanted) // count
    for index, path in enumerate(sorted((folder / "images").iterdir())[:count]):
        assert to_pixels(path.read_bytes(), side_px, 10**9) == wanted[index * one : (index + 1) * one], path.name
