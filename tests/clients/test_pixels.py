"""The right pixels, not only a 200: every format and odd variant against the plain picture of the same pixels.

Lossless variants are held by the digest of what the model got; lossy ones by their greatest difference from the plain
picture, a channel of 255, and by the digest of what was measured.
"""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import httpx
import pytest
from PIL import Image

from service.image_input.decoding import to_pixels
from service.image_input.other_formats import EXTRA
from tests.attacks.files import photo, png, png_chunk, png_header, saved
from tests.clients.asking import sha256, sha_of_picture, square
from tests.clients.conftest import SIDE_PX
from tests.service.heic import heic
from tests.service.image_input.turns import TURNED_BACK

WHITE = (255, 255, 255)
LOSSY = 3  # of 255: the greatest difference of a lossy variant, at its best quality
PHOTO = photo(96, 64)
GREY = PHOTO.convert("L")
PALETTE = PHOTO.quantize(16)
BLACK_AND_WHITE = GREY.point([0 if value < 128 else 255 for value in range(256)])


class Variant(NamedTuple):
    data: Callable[[], bytes]
    plain: Image.Image
    tolerance: int = 0


def stored(
    kind: str, picture: Image.Image, plain: Image.Image | None = None, tolerance: int = 0, **how: Any
) -> Variant:
    return Variant(lambda: saved(picture, kind, **how), picture if plain is None else plain, tolerance)


def deep_png(samples: str, colour_type: int, interlaced: bool = False) -> Callable[[], bytes]:
    """Of 16 bits: each sample's two bytes are the 8-bit value twice, which is the same shade."""

    def build() -> bytes:
        picture = PHOTO.convert(samples)
        num_bands = len(samples)
        rows = [picture.crop((0, y, picture.width, y + 1)).tobytes() for y in range(picture.height)]
        lines = _adam7(rows, num_bands) if interlaced else rows
        twice = b"".join(b"\0" + b"".join(bytes([value, value]) for value in line) for line in lines)
        header = png_header(picture.width, picture.height, 16, colour_type, int(interlaced))
        return png(header, png_chunk(b"IDAT", zlib.compress(twice)))

    return build


def small_png(bits: int) -> Callable[[], bytes]:
    """Grey of fewer than 8 bits."""

    def build() -> bytes:
        source, per_byte = _few_greys(bits), 8 // bits
        rows = []
        for y in range(source.height):
            values = [value >> (8 - bits) for value in source.crop((0, y, source.width, y + 1)).tobytes()]
            groups = [values[i : i + per_byte] for i in range(0, len(values), per_byte)]
            rows.append(bytes(sum(v << (8 - bits * (i + 1)) for i, v in enumerate(group)) for group in groups))
        data = zlib.compress(b"".join(b"\0" + row for row in rows))
        return png(png_header(source.width, source.height, bits, 0), png_chunk(b"IDAT", data))

    return build


def _few_greys(bits: int) -> Image.Image:
    top = (1 << bits) - 1
    return GREY.point([(value >> (8 - bits)) * 255 // top for value in range(256)])


def _interlaced(mode: str, colour_type: int) -> Callable[[], bytes]:
    def build() -> bytes:
        picture = PHOTO.convert(mode)
        rows = [picture.crop((0, y, picture.width, y + 1)).tobytes() for y in range(picture.height)]
        data = zlib.compress(b"".join(b"\0" + line for line in _adam7(rows, len(mode))))
        return png(png_header(picture.width, picture.height, 8, colour_type, 1), png_chunk(b"IDAT", data))

    return build


def _adam7(rows: list[bytes], num_bands: int) -> Iterator[bytes]:
    """The lines of the seven passes."""
    width_px = len(rows[0]) // num_bands
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    for left, top, right_step, down_step in passes:
        for row in rows[top::down_step]:
            yield b"".join(row[num_bands * x : num_bands * (x + 1)] for x in range(left, width_px, right_step))


def bmp_of(bits: int, top_down: bool = False) -> Callable[[], bytes]:
    """16 bits are five a channel, 32 have an unused byte."""

    def build() -> bytes:
        rows = []
        for y in range(PHOTO.height):
            line = PHOTO.crop((0, y, PHOTO.width, y + 1)).tobytes()
            pixels = [line[i : i + 3] for i in range(0, len(line), 3)]
            if bits == 16:
                row = b"".join(struct.pack("<H", r >> 3 << 10 | g >> 3 << 5 | b >> 3) for r, g, b in pixels)
            else:
                row = b"".join(bytes([b, g, r, 0]) for r, g, b in pixels)
            rows.append(row)
        data = b"".join(rows if top_down else rows[::-1])
        height_px = -PHOTO.height if top_down else PHOTO.height
        header = struct.pack("<IiiHHIIiiII", 40, PHOTO.width, height_px, 1, bits, 0, len(data), 0, 0, 0, 0)
        return b"BM" + struct.pack("<IHHI", 54 + len(data), 0, 0, 54) + header + data

    return build


def adobe_cmyk() -> bytes:
    """As a printer's JPEG: four inks."""
    return saved(PHOTO.convert("CMYK"), "JPEG", quality=100, subsampling=0)


def turned(kind: str, orientation: int, **how: Any) -> Callable[[], bytes]:
    """Stored as a camera does that was held otherwise."""
    back = TURNED_BACK[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = PHOTO.transpose(back)
    if kind == "HEIF":
        return lambda: heic(picture, exif=exif.tobytes())
    if kind == "TIFF":
        return lambda: saved(picture, kind, tiffinfo={274: orientation})
    return lambda: saved(picture, kind, exif=exif, **how)


BEST_JPEG: dict[str, Any] = {"quality": 100, "subsampling": 0}
BEST_AVIF: dict[str, Any] = {"quality": 100, "subsampling": "4:4:4"}

VARIANTS = {
    "png": stored("PNG", PHOTO),
    "png, grey": stored("PNG", GREY),
    "png, palette": stored("PNG", PALETTE),
    "png, 1 bit": stored("PNG", BLACK_AND_WHITE.convert("1"), BLACK_AND_WHITE),
    "png, grey of 2 bits": Variant(small_png(2), _few_greys(2)),
    "png, grey of 4 bits": Variant(small_png(4), _few_greys(4)),
    "png, grey of 16 bits": Variant(deep_png("L", 0), GREY),
    "png, colour of 16 bits": Variant(deep_png("RGB", 2), PHOTO),
    "png, colour and alpha of 16 bits": Variant(deep_png("RGBA", 6), PHOTO),
    "png, grey and alpha of 16 bits": Variant(deep_png("LA", 4), GREY),
    "png, interlaced": Variant(_interlaced("RGB", 2), PHOTO),
    "png, interlaced grey": Variant(_interlaced("L", 0), GREY),
    "png, interlaced with alpha": Variant(_interlaced("RGBA", 6), PHOTO),
    "png, interlaced of 16 bits": Variant(deep_png("RGB", 2, interlaced=True), PHOTO),
    "png, opaque RGBA": stored("PNG", PHOTO.convert("RGBA")),
    "png, animated": stored("PNG", PHOTO, save_all=True, append_images=[Image.new("RGB", PHOTO.size)]),
    "gif": stored("GIF", PALETTE, PALETTE),
    "gif, interlaced": stored("GIF", PALETTE, interlace=1),
    "gif, not interlaced": stored("GIF", PALETTE, interlace=0),
    "gif, grey": stored("GIF", GREY),
    "gif, animated": stored("GIF", PALETTE, save_all=True, append_images=[Image.new("P", PHOTO.size)]),
    "webp, lossless": stored("WEBP", PHOTO, lossless=True),
    "webp, lossless opaque RGBA": stored("WEBP", PHOTO.convert("RGBA"), lossless=True),
    "webp, animated": stored("WEBP", PHOTO, lossless=True, save_all=True, append_images=[Image.new("RGB", PHOTO.size)]),
    "webp, lossy": stored("WEBP", PHOTO, tolerance=LOSSY, quality=100, method=6),
    "webp, lossy with alpha": stored("WEBP", PHOTO.convert("RGBA"), tolerance=LOSSY, quality=100),
    "bmp": stored("BMP", PHOTO),
    "bmp, 1 bit": stored("BMP", BLACK_AND_WHITE.convert("1"), BLACK_AND_WHITE),
    "bmp, palette": stored("BMP", PALETTE),
    "bmp, grey": stored("BMP", GREY),
    "bmp, 16 bits": Variant(bmp_of(16), PHOTO, 5),
    "bmp, 32 bits": Variant(bmp_of(32), PHOTO),
    "bmp, top down": Variant(bmp_of(32, top_down=True), PHOTO),
    "jpeg": stored("JPEG", PHOTO, tolerance=LOSSY, **BEST_JPEG),
    "jpeg, progressive": stored("JPEG", PHOTO, tolerance=LOSSY, progressive=True, **BEST_JPEG),
    "jpeg, grey": stored("JPEG", GREY, tolerance=LOSSY, quality=100),
    "jpeg, four inks": Variant(adobe_cmyk, PHOTO, LOSSY),
    "jpeg, RGB without a transform": stored("JPEG", PHOTO, tolerance=LOSSY, quality=100, keep_rgb=True),
    "tiff": stored("TIFF", PHOTO),
    "tiff, deflate": stored("TIFF", PHOTO, compression="tiff_adobe_deflate"),
    "tiff, LZW of a palette": stored("TIFF", PALETTE, compression="tiff_lzw"),
    "tiff, packed 1 bit": stored("TIFF", BLACK_AND_WHITE.convert("1"), BLACK_AND_WHITE, compression="packbits"),
    "tiff, opaque RGBA": stored("TIFF", PHOTO.convert("RGBA")),
    "tiff, grey of 16 bits": stored(
        "TIFF", Image.frombytes("I;16", GREY.size, b"".join(bytes([v, v]) for v in GREY.tobytes())), GREY
    ),
    "avif": stored("AVIF", PHOTO, tolerance=LOSSY, **BEST_AVIF),
    "avif, opaque RGBA": stored("AVIF", PHOTO.convert("RGBA"), tolerance=LOSSY, **BEST_AVIF),
    "heic": Variant(lambda: heic(PHOTO), PHOTO, LOSSY),
    "heic, grey": Variant(lambda: heic(GREY), GREY, LOSSY),
    "heic, opaque RGBA": Variant(lambda: heic(PHOTO.convert("RGBA")), PHOTO, LOSSY),
    **{
        f"{kind.lower()}, turned {orientation}": Variant(turned(kind, orientation, **how), PHOTO, tolerance)
        for kind, tolerance, how in (
            ("PNG", 0, {}),
            ("WEBP", 0, {"lossless": True}),
            ("TIFF", 0, {}),
            ("JPEG", LOSSY, BEST_JPEG),
            ("AVIF", LOSSY, BEST_AVIF),
            ("HEIF", LOSSY, {}),
        )
        for orientation in range(2, 9)
    },
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_has_the_pixels_of_the_plain_picture(client: httpx.Client, name: str) -> None:
    variant = VARIANTS[name]
    data, wanted = variant.data(), square(variant.plain)
    sha = sha_of_picture(client, data)
    if not variant.tolerance:
        assert sha == sha256(wanted)
        return
    here = to_pixels(data, SIDE_PX, 10**7, background=WHITE, extra=EXTRA)
    assert sha == sha256(here), "what was measured is not what the model got"
    difference = max(abs(a - b) for a, b in zip(here, wanted, strict=True))
    assert difference <= variant.tolerance


def half_clear() -> Image.Image:
    """Alpha from 0 to 255 over the width, over hidden green."""
    picture = PHOTO.convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").rotate(90).resize(PHOTO.size))
    return picture


def composed(picture: Image.Image) -> Image.Image:
    """On white, in whole numbers and rounded, without Pillow's own ways."""
    flat = bytearray()
    rgba = picture.convert("RGBA").tobytes()
    for start in range(0, len(rgba), 4):
        alpha = rgba[start + 3]
        flat += bytes(round((value * alpha + 255 * (255 - alpha)) / 255) for value in rgba[start : start + 3])
    return Image.frombytes("RGB", picture.size, bytes(flat))


COMPOSED: dict[str, tuple[Callable[[], bytes], Image.Image, int]] = {
    "png": (lambda: saved(half_clear(), "PNG"), half_clear(), 0),
    "png, grey and alpha": (lambda: saved(half_clear().convert("LA"), "PNG"), half_clear().convert("LA"), 0),
    "webp, lossless": (lambda: saved(half_clear(), "WEBP", lossless=True, exact=True), half_clear(), 0),
    "webp, lossy": (lambda: saved(half_clear(), "WEBP", quality=100, exact=True), half_clear(), LOSSY),
    "tiff": (lambda: saved(half_clear(), "TIFF"), half_clear(), 0),
    "avif": (lambda: saved(half_clear(), "AVIF", **BEST_AVIF), half_clear(), LOSSY),
    "heic": (lambda: heic(half_clear()), half_clear(), LOSSY),
}


@pytest.mark.parametrize("name", COMPOSED)
def test_what_is_half_transparent_is_composed_on_white(client: httpx.Client, name: str) -> None:
    build, picture, tolerance = COMPOSED[name]
    data, wanted = build(), square(composed(picture))
    here = to_pixels(data, SIDE_PX, 10**7, background=WHITE, extra=EXTRA)
    assert sha_of_picture(client, data) == sha256(here)
    assert max(abs(a - b) for a, b in zip(here, wanted, strict=True)) <= tolerance


def test_the_variants_are_what_their_names_say() -> None:
    """Read by Pillow alone: a table of plain pictures would pass as well."""
    modes = {"png, 1 bit": "1", "png, palette": "P", "png, grey of 16 bits": "I;16", "jpeg, four inks": "CMYK"}
    for name, mode in modes.items():
        assert Image.open(io.BytesIO(VARIANTS[name].data())).mode == mode
    for name, variant in VARIANTS.items():
        if name.startswith("png, interlaced"):
            assert variant.data()[28] == 1
        if name.startswith("jpeg, progressive"):
            assert b"\xff\xc2" in variant.data()
