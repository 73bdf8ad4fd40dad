"""Transparent pictures: the pixels of the composed picture for each format and each way of being transparent."""

import hashlib
import io
import struct
import zlib
from collections.abc import Callable

import pytest
from PIL import Image

from service.image_input.decoding import to_pixels
from service.image_input.transparency import parse_colour
from tests.attacks.files import gif, gif_frame, png, png_chunk, png_header, saved

SIDE_PX, LIMIT_PX = 24, 1_000_000
GROUNDS = [(255, 255, 255), (0, 0, 0), (18, 52, 86)]


def sticker(mode: str = "RGBA") -> Image.Image:
    """A red square over hidden green, its border half transparent where the mode can be."""
    picture = Image.new("RGBA", (48, 48), (0, 200, 0, 0))
    picture.paste((200, 0, 0, 128), (8, 8, 40, 40))
    picture.paste((200, 0, 0, 255), (12, 12, 36, 36))
    if mode == "LA":
        return picture.convert("LA")
    if mode == "P":  # one entry of each kind
        flat = Image.new("P", (48, 48), 0)
        flat.putpalette([0, 200, 0, 200, 0, 0, 200, 0, 0])
        flat.paste(1, (8, 8, 40, 40))
        flat.paste(2, (12, 12, 36, 36))
        flat.info["transparency"] = bytes([0, 128, 255])
        return flat
    return picture


def on(picture: Image.Image, ground: tuple[int, int, int]) -> str:
    """The digest that a composed picture's pixels have; composed in numbers, without Pillow's own ways."""
    rgba = picture.convert("RGBA").tobytes()
    flat = bytearray()
    for start in range(0, len(rgba), 4):
        alpha = rgba[start + 3]
        for over, under in zip(rgba[start : start + 3], ground, strict=True):
            flat.append(round((over * alpha + under * (255 - alpha)) / 255))
    return digest(Image.frombytes("RGB", picture.size, bytes(flat)))


def digest(picture: Image.Image) -> str:
    square = picture.convert("RGB").resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)
    return hashlib.sha256(square.tobytes()).hexdigest()


def decoded(data: bytes, ground: tuple[int, int, int] | None) -> str:
    return hashlib.sha256(to_pixels(data, SIDE_PX, LIMIT_PX, background=ground)).hexdigest()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


FILES: dict[str, Callable[[], bytes]] = {
    "png rgba": lambda: saved(sticker(), "PNG"),
    "png grey and alpha": lambda: saved(sticker("LA"), "PNG"),
    "png palette": lambda: saved(sticker("P"), "PNG", transparency=bytes([0, 128, 255])),
    "webp lossless": lambda: saved(sticker(), "WEBP", lossless=True, exact=True),
    "webp lossy": lambda: saved(sticker(), "WEBP", quality=80, exact=True),
    "webp animated": lambda: saved(
        sticker(), "WEBP", lossless=True, exact=True, save_all=True, append_images=[Image.new("RGBA", (48, 48), "blue")]
    ),
    "gif": lambda: saved(sticker("P"), "GIF", transparency=0),
}


@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize("name", FILES)
def test_transparent_pixels_show_the_ground(name: str, ground: tuple[int, int, int]) -> None:
    data = FILES[name]()
    assert decoded(data, ground) == on(opened(data), ground)


@pytest.mark.parametrize("name", FILES)
def test_without_a_ground_alpha_is_dropped(name: str) -> None:
    data = FILES[name]()
    assert decoded(data, None) == digest(opened(data).convert("RGBA"))
    assert decoded(data, None) != decoded(data, (255, 255, 255))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_alpha_channel_that_is_opaque_changes_nothing(kind: str) -> None:
    opaque = Image.linear_gradient("L").resize((48, 48)).convert("RGBA")
    options = {"lossless": True} if kind == "WEBP" else {}
    assert decoded(saved(opaque, kind, **options), (1, 2, 3)) == digest(opaque)


def test_what_is_hidden_does_not_show() -> None:
    hidden = saved(Image.new("RGBA", (256, 256), (0, 255, 0, 0)), "PNG")
    assert to_pixels(hidden, 2, LIMIT_PX, background=(255, 255, 255)) == b"\xff" * 12
    black = Image.new("LA", (32, 32), (0, 0))
    black.paste((0, 255), (8, 8, 24, 24))
    assert on(black, (255, 255, 255)) == decoded(saved(black, "PNG"), (255, 255, 255))


def png_with_clear(bits: int, colour_type: int, rows: list[bytes], clear: tuple[int, ...], width_px: int) -> bytes:
    return png(
        png_header(width_px, len(rows), bits, colour_type),
        png_chunk(b"tRNS", struct.pack(f">{len(clear)}H", *clear)),
        png_chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))),
    )


@pytest.mark.parametrize("name", ["png rgba", "png palette", "gif"])
def test_large_pictures_are_composed_in_bands_without_a_seam(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = FILES[name]()
    for rows in (1, 7, 47):
        monkeypatch.setattr("service.image_input.transparency._BAND_PX", 48 * rows)
        assert decoded(data, (18, 52, 86)) == on(opened(data), (18, 52, 86))


@pytest.mark.slow
def test_one_transparent_colour_in_bands() -> None:
    rows = [bytes([1, 2, row % 256]) * 1024 for row in range(2100)]
    data = png_with_clear(8, 2, rows, (1, 2, 3), 1024)
    wanted = opened(data).convert("RGB")
    wanted.paste((9, 9, 9), (0, 3, 1024, 4))
    for row in range(3, 2100, 256):
        wanted.paste((9, 9, 9), (0, row, 1024, row + 1))
    got = to_pixels(data, SIDE_PX, 10_000_000, background=(9, 9, 9))
    assert got == wanted.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC).tobytes()


CLEAR = {
    "1 bit": (png_with_clear(1, 0, [b"\x40"], (1,), 2), [(0, 0, 0), (9, 9, 9)]),
    "2 bits": (png_with_clear(2, 0, [b"\x90"], (2,), 2), [(9, 9, 9), (85, 85, 85)]),
    "4 bits": (png_with_clear(4, 0, [b"\x7f"], (15,), 2), [(119, 119, 119), (9, 9, 9)]),
    "8 bits": (png_with_clear(8, 0, [b"\x07\x08"], (8,), 2), [(7, 7, 7), (9, 9, 9)]),
    "16 bits": (png_with_clear(16, 0, [b"\x80\x01\x80\x00"], (0x8000,), 2), [(128, 128, 128), (9, 9, 9)]),
    "rgb": (png_with_clear(8, 2, [b"\1\2\3\1\2\4"], (1, 2, 3), 2), [(9, 9, 9), (1, 2, 4)]),
    "rgb, 16 bits": (
        png_with_clear(16, 2, [b"\x10\1\x20\2\x30\3" + b"\x10\1\x20\2\x30\4"], (0x1001, 0x2002, 0x3003), 2),
        [(9, 9, 9), (0x10, 0x20, 0x30)],
    ),
}


@pytest.mark.parametrize("name", CLEAR)
def test_one_transparent_colour_in_its_own_samples(name: str) -> None:
    data, pixels = CLEAR[name]
    wanted = Image.new("RGB", (2, 1))
    wanted.putdata(pixels)
    assert decoded(data, (9, 9, 9)) == digest(wanted)


def test_a_transparent_colour_that_says_nothing_readable_is_none() -> None:
    for chunk in (png_chunk(b"tRNS", b"\0"), png_chunk(b"tRNS", bytes(600))):
        data = png(png_header(1, 1), chunk, png_chunk(b"IDAT", zlib.compress(bytes(4))))
        assert to_pixels(data, 1, LIMIT_PX, background=(9, 9, 9)) == bytes(3)
    late = png(png_header(1, 1), png_chunk(b"IDAT", zlib.compress(bytes(4))), png_chunk(b"tRNS", bytes(6)))
    assert to_pixels(late, 1, LIMIT_PX, background=(9, 9, 9)) == bytes(3)


def test_what_a_first_frame_leaves_bare_shows_the_ground() -> None:
    small = Image.open(io.BytesIO(gif(gif_frame(8, 8, 8, 8), width_px=32, height_px=32)))
    wanted = Image.new("RGB", (32, 32), (9, 9, 9))
    wanted.paste(small.convert("RGB").crop((8, 8, 16, 16)), (8, 8))
    assert decoded(gif(gif_frame(8, 8, 8, 8), width_px=32, height_px=32), (9, 9, 9)) == digest(wanted)


def test_a_gif_of_a_grey_palette() -> None:
    grey = Image.new("L", (16, 16), 40)
    grey.paste(200, (4, 4, 12, 12))
    data = saved(grey, "GIF", transparency=40)
    assert decoded(data, (9, 9, 9)) == on(opened(data), (9, 9, 9))
    wanted = Image.new("RGB", (16, 16), (9, 9, 9))
    wanted.paste((200, 200, 200), (4, 4, 12, 12))
    assert decoded(data, (9, 9, 9)) == digest(wanted)


def test_bitmaps_with_alpha() -> None:
    """A bitmap of header version 4: its fourth byte is alpha, unless nobody ever wrote one."""
    for alpha, wanted in ((b"\0\xff", [(9, 9, 9), (6, 5, 4)]), (b"\0\0", [(3, 2, 1), (6, 5, 4)])):
        head = struct.pack("<IiiHHIIiiII", 108, 2, 1, 1, 32, 3, 8, 0, 0, 0, 0)
        head += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + bytes(108 - 56)
        pixels = b"\1\2\3" + alpha[:1] + b"\4\5\6" + alpha[1:]
        data = b"BM" + struct.pack("<IHHI", 14 + 108 + 8, 0, 0, 14 + 108) + head + pixels
        flat = Image.new("RGB", (2, 1))
        flat.putdata(wanted)
        assert decoded(data, (9, 9, 9)) == digest(flat)


def test_colours_are_six_hex_digits() -> None:
    assert parse_colour("#FF8001") == (255, 128, 1)
    for wrong in ("", "#fff", "ffffff", "#ffffff ", "#gggggg", "white", "# 1 2 3"):
        with pytest.raises(ValueError):
            parse_colour(wrong)
