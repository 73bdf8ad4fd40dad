"""HEIC: its pixels, turns, transparency and caps, of files that pillow-heif writes; pi-heif reads them."""

import resource
import struct
import sys
from typing import Any

import pytest
from PIL import Image

from service.core.errors import ImageTooLarge, InvalidImage
from service.image_input import other_formats
from service.image_input.decoding import MAX_WEBP_PX, to_pixels
from service.image_input.other_formats import EXTRA, extra_format, installed, load_decoder
from tests.attacks.files import photo
from tests.service.heic import heic
from tests.service.image_input.turns import TURNED_BACK

SIDE_PX, LIMIT_PX = 16, 1_000_000
TOLERANCE = 3  # of 255: lossless HEVC is exact, the way to YCbCr and back is not


def decoded(
    data: bytes, background: tuple[int, int, int] | None = None, side_px: int = SIDE_PX, limit_px: int = LIMIT_PX
) -> bytes:
    return to_pixels(data, side_px, limit_px, background=background, extra=EXTRA)


def assert_near(got: bytes, wanted: Image.Image) -> None:
    square = wanted.convert("RGB").resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC).tobytes()
    assert max(abs(a - b) for a, b in zip(got, square, strict=True)) <= TOLERANCE


def test_the_extra_is_installed_and_reads_with_the_decoder_that_has_no_encoder() -> None:
    assert installed() == EXTRA
    load_decoder("HEIC")
    assert sys.modules["pi_heif"].options.DECODE_THREADS == 1 and not sys.modules["pi_heif"].options.THUMBNAILS
    assert not sys.modules["pi_heif"].libheif_info()["HEIF"], "an encoder came along"


def test_the_package_with_an_encoder_is_taken_where_it_is_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(other_formats, "_HEIF_PACKAGES", ("none_such", "pillow_heif"))
    assert installed() == EXTRA
    monkeypatch.setattr(other_formats, "_HEIF_PACKAGES", ("none_such",))
    assert installed() == ()


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_samples(mode: str) -> None:
    picture = photo(80, 60).convert(mode)
    data = heic(picture)
    assert extra_format(data) == "HEIC"
    assert_near(decoded(data), picture)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"enc_params": {"preset": "ultrafast"}}, {"tile_size": 64}])
def test_structures(options: dict[str, Any]) -> None:
    picture = photo(200, 160)
    assert_near(decoded(heic(picture, **options)), picture)


def test_ten_bits_are_rounded_to_eight() -> None:
    deep = Image.frombytes("I;16", (64, 64), struct.pack("<4096H", *[(i % 64) << 10 for i in range(4096)]))
    got = decoded(heic(deep))
    wanted = Image.frombytes("L", (64, 64), bytes((i % 64) << 2 for i in range(4096)))
    assert_near(got, wanted)


@pytest.mark.parametrize("orientation", TURNED_BACK)
def test_the_cameras_turn_is_undone_once(orientation: int) -> None:
    """The turn stands in the file's own boxes and, for readers that know no better, in its EXIF once more."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = photo(80, 60)
    stored = upright.transpose(TURNED_BACK[orientation])
    assert_near(decoded(heic(stored, exif=exif.tobytes())), upright)


def sticker() -> Image.Image:
    picture = Image.new("RGBA", (64, 64), (0, 200, 0, 0))
    picture.paste((200, 0, 0, 255), (16, 16, 48, 48))
    return picture


@pytest.mark.parametrize("premultiplied", [False, True])
def test_transparent_pixels_show_the_ground(premultiplied: bool) -> None:
    ground = (18, 52, 86)
    wanted = Image.new("RGB", (64, 64), ground)
    wanted.paste((200, 0, 0), (16, 16, 48, 48))
    data = heic(sticker().convert("RGBa") if premultiplied else sticker())
    assert_near(decoded(data, ground), wanted)


def test_without_a_ground_alpha_is_dropped() -> None:
    assert_near(decoded(heic(sticker())), sticker().convert("RGB"))


def test_of_several_pictures_the_primary_one_is_seen() -> None:
    red, blue = Image.new("RGB", (64, 64), (200, 0, 0)), Image.new("RGB", (64, 64), (0, 0, 200))
    assert_near(decoded(heic(red, blue, primary_index=0)), red)
    assert_near(decoded(heic(red, blue, primary_index=1)), blue)


def test_the_caps_hold_before_anything_is_decoded() -> None:
    with pytest.raises(ImageTooLarge, match="80×60 is 4800 pixels, at most 4799"):
        decoded(heic(photo(80, 60)), limit_px=4799)
    large = resized_in_its_header(heic(photo(64, 64)), (64, 64), (6000, 5000))
    with pytest.raises(ImageTooLarge, match=str(MAX_WEBP_PX)):
        decoded(large, limit_px=10**9)


@pytest.mark.slow
def test_a_header_that_tells_a_smaller_picture_than_is_coded_is_no_way_around_the_caps() -> None:
    side_px = 3000  # decoded, 27 MB
    bomb = resized_in_its_header(
        heic(Image.new("RGB", (side_px, side_px)), quality=10, chroma=420), (side_px, side_px), (64, 64)
    )
    assert len(bomb) < 20_000
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InvalidImage):
        decoded(bomb)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 16 * 1024


def resized_in_its_header(data: bytes, size_px: tuple[int, int], told_px: tuple[int, int]) -> bytes:
    box = b"ispe\0\0\0\0"
    assert box + struct.pack(">II", *size_px) in data
    return data.replace(box + struct.pack(">II", *size_px), box + struct.pack(">II", *told_px))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_file_cut_off_is_invalid(share: float) -> None:
    data = heic(Image.effect_noise((64, 64), 60).convert("RGB"))
    with pytest.raises(InvalidImage):
        decoded(data[: int(len(data) * share)])


@pytest.mark.slow
def test_flipped_bytes_raise_nothing_else() -> None:
    data = heic(photo(80, 60))
    for position in range(0, len(data), 7):
        broken = bytearray(data)
        broken[position] ^= 0xFF
        try:
            decoded(bytes(broken))
        except (InvalidImage, ImageTooLarge):
            continue


def test_a_sequence_without_a_still_picture_is_invalid() -> None:
    data = b"\0\0\0\x18ftyphevc\0\0\0\0msf1hevc" + b"\0\0\0\x10moov" + b"\0\0\0\x08mvhd"
    assert extra_format(data) == "HEIC"
    with pytest.raises(InvalidImage, match="a file without a still picture"):
        decoded(data)
