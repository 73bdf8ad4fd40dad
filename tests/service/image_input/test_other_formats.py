"""Files of other kinds are told by their names; those that the extra `formats` is for are decoded where it is there."""

import gzip
import importlib.util

import pytest
from PIL import AvifImagePlugin, Image

from service.core.errors import ImageTooLarge, InvalidImage
from service.image_input.decoding import to_pixels
from service.image_input.other_formats import EXTRA, extra_format, installed, load_decoder, name_of
from tests.attacks.files import photo, png_flat, saved

SIDE_PX, LIMIT_PX = 16, 1_000_000


def box(major: bytes, *others: bytes) -> bytes:
    body = major + bytes(4) + b"".join(others)
    return (len(body) + 8).to_bytes(4, "big") + b"ftyp" + body + bytes(64)


NAMES = {
    "a HEIC picture": [box(b"heic", b"mif1"), box(b"mif1", b"heic"), box(b"msf1"), box(b"heix")],
    "an AVIF picture": [box(b"avif", b"mif1"), box(b"mif1", b"avif", b"miaf"), box(b"avis")],
    "a TIFF picture": [b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"II+\0\x08\0\0\0"],
    "a video (MP4 or QuickTime)": [box(b"isom", b"mp42"), box(b"qt  ")],
    "an SVG drawing": [
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- drawn -->\n<!DOCTYPE svg PUBLIC 'x' 'y'>\n<svg>",
    ],
    "an HTML page": [b"<!doctype html><p>", b"<html>", b"\n<HEAD>"],
    "an XML document": [b"<?xml version='1.0'?><x/>"],
    "a PDF document": [b"%PDF-1.7"],
    "a PostScript file": [b"%!PS-Adobe-3.0"],
    "a Photoshop file": [b"8BPS\0\1"],
    "an icon (ICO)": [saved(photo(), "ICO")],
    "a JPEG 2000 picture": [b"\0\0\0\x0cjP  \r\n\x87\n"],
    "a JPEG XL picture": [b"\xff\x0a\0", b"\0\0\0\x0cJXL \r\n\x87\n"],
    "a gzip file": [gzip.compress(b"<svg/>")],
    "a PNM picture": [b"P6 4 4 255\n"],
    "JSON": [b'{"error": 1}', b"[]"],
    "a picture in base64, encoded once more": [b"iVBORw0KGgoAAAA", b"/9j/4AAQ"],
    "a data URL, encoded once more": [b"data:image/png;base64,AAAA"],
}


@pytest.mark.parametrize("name", NAMES)
def test_a_refusal_says_what_the_file_is(name: str) -> None:
    for data in NAMES[name]:
        assert name_of(data) == name
        with pytest.raises(InvalidImage) as refused:
            to_pixels(data, SIDE_PX, LIMIT_PX)
        assert f"it is {name}; allowed: PNG, JPEG, WEBP, GIF, BMP" in refused.value.message
        assert ("the extra `formats`" in refused.value.message) == (extra_format(data) is not None)


def test_what_nobody_knows_has_no_name() -> None:
    for data in (b"", b"hello", bytes(99), b"\0\0\0\x08ftyp", b" " + png_flat(8, 8)):
        assert name_of(data) in ("", "a video (MP4 or QuickTime)") and extra_format(data) is None


def test_nothing_of_the_extra_is_there_without_its_package() -> None:
    has_package = importlib.util.find_spec("pillow_heif") is not None
    assert bool(installed()) == has_package and set(installed()) <= set(EXTRA)


def wanted(picture: Image.Image) -> bytes:
    return picture.convert("RGB").resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC).tobytes()


def test_an_avif_is_decoded_under_the_same_caps() -> None:
    upright = photo(80, 60)
    data = saved(upright, "AVIF", quality=100, subsampling="4:4:4")
    got = to_pixels(data, SIDE_PX, LIMIT_PX, extra=EXTRA)
    assert max(abs(a - b) for a, b in zip(got, wanted(upright), strict=True)) <= 3
    with pytest.raises(ImageTooLarge, match="80×60 is 4800 pixels, at most 4799"):
        to_pixels(data, SIDE_PX, 4799, extra=EXTRA)
    for share in (0.5, 0.9, 0.99):
        with pytest.raises(InvalidImage):
            to_pixels(data[: int(len(data) * share)], SIDE_PX, LIMIT_PX, extra=EXTRA)


def test_an_avifs_decoder_has_one_thread() -> None:
    load_decoder("AVIF")
    assert AvifImagePlugin._get_default_max_threads() == 1


def test_an_avifs_turn_and_transparency_are_those_of_the_other_formats() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    upright = photo(80, 60)
    turned = saved(upright.transpose(Image.Transpose.ROTATE_180), "AVIF", quality=100, subsampling="4:4:4", exif=exif)
    got = to_pixels(turned, SIDE_PX, LIMIT_PX, extra=EXTRA)
    assert max(abs(a - b) for a, b in zip(got, wanted(upright), strict=True)) <= 3
    clear = saved(Image.new("RGBA", (32, 32), (0, 255, 0, 0)), "AVIF")
    assert to_pixels(clear, 1, LIMIT_PX, background=(9, 8, 7), extra=EXTRA) == bytes([9, 8, 7])


def test_broken_boxes_are_invalid() -> None:
    for data in (box(b"avif"), box(b"avif") + bytes(9999)):
        with pytest.raises(InvalidImage, match="a file without a still picture"):
            to_pixels(data, SIDE_PX, LIMIT_PX, extra=("AVIF",))
