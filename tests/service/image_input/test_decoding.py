"""Pixels: every kind of picture against Pillow's own and the reference's, and the limits of size and time."""

import io
import json
import os
import resource
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from service.core.errors import ImageTooLarge, InvalidImage, ServiceError
from service.image_input.decoding import MAX_SIDE_PX, MAX_WEBP_PX, to_pixels
from tests.attacks.files import (
    bmp,
    gif,
    gif_frame,
    photo,
    png,
    png_chunk,
    png_flat,
    png_header,
    saved,
    webp,
    webp_canvas,
    webp_chunk,
)
from tests.service.image_input.turns import TURNED_BACK

SIDE_PX = 16
LIMIT_PX = 1_000_000


def expected(picture: Image.Image) -> bytes:
    return picture.convert("RGB").resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC).tobytes()


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_lossless_formats_give_the_resized_pixels(kind: str) -> None:
    assert to_pixels(saved(photo(), kind), SIDE_PX, LIMIT_PX) == expected(photo())


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF"])
def test_other_formats_give_what_pillow_decodes(kind: str) -> None:
    data = saved(photo(), kind)
    assert to_pixels(data, SIDE_PX, LIMIT_PX) == expected(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA"])
def test_modes_are_converted(mode: str) -> None:
    picture = photo().convert("RGBA" if mode == "RGBA" else "L" if mode in ("1", "L", "LA") else "P")
    picture = picture.convert(mode) if mode != "PA" else picture
    assert to_pixels(saved(picture, "PNG"), SIDE_PX, LIMIT_PX) == expected(picture)


def test_alpha_is_dropped_not_blended() -> None:
    clear = Image.new("RGBA", (8, 8), (10, 200, 30, 0))
    assert to_pixels(saved(clear, "PNG"), 2, LIMIT_PX) == bytes([10, 200, 30] * 4)


def test_cmyk_is_converted() -> None:
    data = saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")
    red, green, blue = to_pixels(data, 1, LIMIT_PX)
    assert red > 240 and green < 20 and blue < 20


def test_16_bit_grey_is_scaled_not_clipped() -> None:
    for value, grey in ((0, 0), (257, 1), (32768, 128), (65535, 255)):
        picture = Image.new("I;16", (4, 4), value)
        assert to_pixels(saved(picture, "PNG"), 1, LIMIT_PX) == bytes([grey] * 3)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_cameras_turn_is_undone(orientation: int, kind: str) -> None:
    turned_back = TURNED_BACK.get(orientation)
    upright = photo()
    stored = upright if turned_back is None else upright.transpose(turned_back)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    got = to_pixels(saved(stored, kind, exif=exif, **options), SIDE_PX, LIMIT_PX)
    tolerance = 4 if kind == "JPEG" else 0
    assert all(abs(a - b) <= tolerance for a, b in zip(got, expected(upright), strict=True))


def test_broken_metadata_do_not_break_the_picture() -> None:
    data = saved(photo(), "PNG", exif=b"Exif\0\0MM\0*garbage that is no directory")
    assert to_pixels(data, SIDE_PX, LIMIT_PX) == expected(photo())


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_only_the_first_frame_of_an_animation_is_seen(kind: str) -> None:
    red, blue = (Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 0, 255)))
    options = {"lossless": True} if kind == "WEBP" else {}
    data = saved(red, kind, save_all=True, append_images=[blue, blue], **options)
    assert to_pixels(data, 1, LIMIT_PX) == bytes([255, 0, 0])


def test_the_smallest_picture() -> None:
    assert to_pixels(saved(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG"), 2, LIMIT_PX) == bytes([1, 2, 3] * 4)


@pytest.mark.parametrize(
    "data",
    [
        png_flat(50_000, 50_000, 1, 0),
        png_flat(2**31 - 1, 2**31 - 1, 1, 0),
        saved(Image.new("1", (1001, 1000)), "PNG"),
        saved(Image.new("L", (1001, 1000)), "JPEG"),
        saved(Image.new("L", (1001, 1000)), "GIF"),
        webp(webp_canvas(16_383, 16_383)),
        webp(webp_canvas(2**24, 2**24, 2), webp_chunk(b"ANIM", bytes(6))),
        gif(gif_frame(left_px=60_000, top_px=60_000)),
        bmp(0, 0)[:18] + struct.pack("<ii", 30_000, -30_000) + bmp(0, 0)[26:],
    ],
    ids=["png 50000", "png 2^31", "png", "jpeg", "gif", "webp 16383", "webp 2^24", "gif frame", "bmp"],
)
def test_the_pixel_cap_holds_before_anything_is_rastered(data: bytes) -> None:
    peak_before = _peak_bytes()
    with pytest.raises(InvalidImage if data.startswith(b"BM") else ImageTooLarge):  # a BMP's data must be there
        to_pixels(data, SIDE_PX, LIMIT_PX)
    assert _peak_bytes() - peak_before < 16 * 2**20


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_a_picture_cut_off_is_invalid(kind: str) -> None:
    data = saved(_noisy((200, 200)), kind)
    for end in (12, len(data) // 2, len(data) * 9 // 10, len(data) * 99 // 100):
        with pytest.raises(InvalidImage):
            to_pixels(data[:end], SIDE_PX, LIMIT_PX)


JPEGS: dict[str, dict[str, object]] = {
    "baseline": {},
    "no subsampling": {"subsampling": 0, "quality": 95},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_rows": 1},
    "optimised": {"optimize": True},
}


@pytest.mark.parametrize("size_px", [(200, 200), (37, 53), (8, 8)])
@pytest.mark.parametrize("name", JPEGS)
def test_a_jpeg_without_its_end_is_taken_when_every_pixel_is_there(name: str, size_px: tuple[int, int]) -> None:
    for picture in (_noisy(size_px), _noisy(size_px).convert("L")):
        whole = saved(picture, "JPEG", **JPEGS[name])
        wanted = to_pixels(whole, SIDE_PX, LIMIT_PX)
        assert whole.endswith(b"\xff\xd9")
        for end in (whole[:-2], whole[:-1]):
            assert to_pixels(end, SIDE_PX, LIMIT_PX) == wanted
        first = whole.index(b"\xff\xda")
        for share in (0.5, 0.9, 0.99) if size_px != (8, 8) else (0.5,):
            with pytest.raises(InvalidImage, match="cut off"):
                to_pixels(whole[: first + int((len(whole) - first) * share)], SIDE_PX, LIMIT_PX)


def test_a_jpeg_that_is_taken_without_its_end_has_the_pixels_of_the_whole() -> None:
    """However many bytes it lacks: those of a chroma without detail may say nothing at all."""
    for options in JPEGS.values():
        whole = saved(_noisy((16, 16)), "JPEG", **options)
        wanted, num_taken = to_pixels(whole, SIDE_PX, LIMIT_PX), 0
        for cut_bytes in range(1, 30):
            try:
                assert to_pixels(whole[:-cut_bytes], SIDE_PX, LIMIT_PX) == wanted
                num_taken += 1
            except InvalidImage:
                continue
        assert 2 <= num_taken < 15


def test_a_progressive_jpeg_that_ends_between_two_scans_is_cut_off() -> None:
    whole = saved(_noisy((64, 64)), "JPEG", progressive=True)
    with pytest.raises(InvalidImage, match="cut off"):
        to_pixels(whole[: whole.rindex(b"\xff\xda")], SIDE_PX, LIMIT_PX)


def _noisy(size_px: tuple[int, int]) -> Image.Image:
    return Image.effect_noise(size_px, 60).convert("RGB")


def _interlaced(side_px: int = 40) -> bytes:
    """Of random grey, in the seven passes of Adam7."""
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    rows = [
        b"\0" + os.urandom(len(range(left, side_px, right_step)))
        for left, top, right_step, down_step in passes
        for _ in range(top, side_px, down_step)
    ]
    return png(png_header(side_px, side_px, 8, 0, 1), png_chunk(b"IDAT", zlib.compress(b"".join(rows))))


@pytest.mark.parametrize("is_interlaced", [False, True])
def test_a_png_without_its_end_is_taken_when_every_pixel_is_there(is_interlaced: bool) -> None:
    whole = _interlaced() if is_interlaced else saved(_noisy((300, 200)), "PNG")
    for cut_bytes in (1, 4, 8, 11, 12):
        assert to_pixels(whole[:-cut_bytes], SIDE_PX, LIMIT_PX) == to_pixels(whole, SIDE_PX, LIMIT_PX)
    for share in (0.5, 0.9, 0.99):
        with pytest.raises(InvalidImage, match="cut off"):
            to_pixels(whole[: int((len(whole) - 16) * share)], SIDE_PX, LIMIT_PX)


def test_a_png_that_ends_between_two_chunks_of_its_data_is_cut_off() -> None:
    whole = saved(_noisy((400, 400)), "PNG")
    assert whole.count(b"IDAT") > 1
    with pytest.raises(InvalidImage, match="cut off"):
        to_pixels(whole[: whole.rindex(b"IDAT") - 4], SIDE_PX, LIMIT_PX)


def test_a_bitmap_may_lack_the_padding_of_its_last_row() -> None:
    whole = saved(_noisy((33, 5)), "BMP")  # 99 bytes and one of padding in a row
    assert to_pixels(whole[:-1], SIDE_PX, LIMIT_PX) == to_pixels(whole, SIDE_PX, LIMIT_PX)
    with pytest.raises(InvalidImage, match="cut off"):
        to_pixels(whole[:-2], SIDE_PX, LIMIT_PX)


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
        to_pixels(saved(photo(), kind), SIDE_PX, LIMIT_PX)


def test_flipped_bytes_never_raise_anything_else() -> None:
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP"):
        data = saved(photo(), kind)
        for position in range(0, len(data), max(1, len(data) // 60)):
            broken = bytearray(data)
            broken[position] ^= 0xFF
            try:
                to_pixels(bytes(broken), SIDE_PX, LIMIT_PX)
            except ServiceError as error:
                assert error.status == 400


def test_a_side_that_the_resize_would_pay_for_is_too_long() -> None:
    """Its table of weights would have 1.6 GB for a picture of 50 million × 1."""
    before = _peak_bytes()
    for width_px, height_px in ((MAX_SIDE_PX + 1, 1), (1, 50_000_000)):
        with pytest.raises(ImageTooLarge, match="side"):
            to_pixels(png_flat(width_px, height_px, 1, 0), SIDE_PX, 50_000_000)
    assert len(to_pixels(saved(Image.new("1", (MAX_SIDE_PX, 1)), "PNG"), SIDE_PX, LIMIT_PX)) == SIDE_PX**2 * 3
    assert _peak_bytes() - before < 32 * 2**20


def test_webp_has_a_lower_cap() -> None:
    with pytest.raises(ImageTooLarge, match=str(MAX_WEBP_PX)):
        to_pixels(webp(webp_canvas(5001, 5000)), SIDE_PX, 10**9)


def test_headers_that_disagree_with_the_data_are_invalid() -> None:
    with pytest.raises(InvalidImage):
        to_pixels(webp(webp_canvas(90, 90), saved(photo(), "WEBP")[12:]), SIDE_PX, LIMIT_PX)


@pytest.mark.slow
def test_decoding_ends_with_its_time() -> None:
    data = saved(Image.frombytes("RGB", (800, 800), os.urandom(800 * 800 * 3)), "PNG")  # several reads long
    assert to_pixels(data, SIDE_PX, LIMIT_PX, limit_s=10.0)
    with pytest.raises(InvalidImage, match="more than the 1e-06 s allowed"):
        to_pixels(data, SIDE_PX, LIMIT_PX, limit_s=1e-6)


def test_16_bit_colour_keeps_its_upper_byte() -> None:
    chunk_start = png_flat(4, 4, 16, 2)  # black
    assert to_pixels(chunk_start, 1, LIMIT_PX) == bytes(3)


def test_the_camera_turn_of_16_bit_grey() -> None:
    upright = Image.linear_gradient("L").resize((40, 30))
    deep = Image.frombytes("I;16", upright.size, b"".join(bytes([value, value]) for value in upright.tobytes()))
    turned = Image.Exif()
    turned[0x0112] = 3
    assert to_pixels(saved(deep, "PNG"), SIDE_PX, LIMIT_PX) == expected(upright)
    assert to_pixels(saved(deep, "PNG", exif=turned), SIDE_PX, LIMIT_PX) == expected(
        upright.transpose(Image.Transpose.ROTATE_180)
    )


def test_the_references_pixels_bit_for_bit() -> None:
    folder = Path(os.environ.get("VISCPM_PARITY_DIR") or Path(__file__).parents[2] / "parity")
    if not (folder / "preprocess.safetensors").is_file():
        pytest.skip(f"reference data: no preprocess.safetensors in {folder}")
    data = (folder / "preprocess.safetensors").read_bytes()
    header_bytes = int.from_bytes(data[:8], "little")
    entry = json.loads(data[8 : 8 + header_bytes])["resized_uint8"]
    count, side_px, _, _ = entry["shape"]
    start, end = (8 + header_bytes + offset for offset in entry["data_offsets"])
    wanted = data[start:end]
    one = len(wanted) // count
    for index, path in enumerate(sorted((folder / "images").iterdir())[:count]):
        assert to_pixels(path.read_bytes(), side_px, 10**9) == wanted[index * one : (index + 1) * one], path.name
