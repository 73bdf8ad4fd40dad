"""AVIF: what its compressed data say of sizes, whatever its headers say."""

import io
import resource
import struct

import pytest
from PIL import Image

from service.core.errors import ImageTooLarge, InvalidImage
from service.image_input.decoding import to_pixels
from service.image_input.heif.avif import as_still, coded_sizes
from service.image_input.heif.sizes import Sizes
from tests.attacks.files import exif, exif_overlapping, photo, saved
from tests.service.image_input.heif.files import avif, reduced_header, unit

LIMIT_PX = 1_000_000
SIDE_PX = 2000  # of what bombs decode to


def decoded(data: bytes, limit_px: int = LIMIT_PX) -> bytes:
    return to_pixels(data, 8, limit_px, extra=("AVIF",))


def claiming(data: bytes, width_px: int, height_px: int) -> bytes:
    """With another size in all of its headers."""
    size = bytearray(data)
    place = size.find(b"ispe")
    assert place > 0
    while place > 0:
        struct.pack_into(">II", size, place + 8, width_px, height_px)
        place = size.find(b"ispe", place + 4)
    return bytes(size)


@pytest.fixture(scope="module")
def bomb() -> bytes:
    return claiming(saved(Image.new("RGB", (SIDE_PX, SIDE_PX)), "AVIF", quality=10, speed=10), 64, 64)


def half_clear(width_px: int = 80, height_px: int = 60) -> Image.Image:
    picture = photo(width_px, height_px).convert("RGBA")
    picture.putalpha(100)
    return picture


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (saved(photo(80, 60), "AVIF"), Sizes(80, 60, 4800)),
        (saved(photo(81, 61), "AVIF", subsampling="4:2:0"), Sizes(81, 61, 4941)),
        (saved(half_clear(), "AVIF"), Sizes(80, 60, 9600)),
        (saved(photo(80, 60), "AVIF", exif=exif(6, bytes(99)), xmp=b"<x/>"), Sizes(80, 60, 4800)),
        (saved(photo(80, 60), "AVIF", save_all=True, append_images=[photo(80, 60)] * 3), Sizes(80, 60, 4800)),
    ],
    ids=["plain", "odd", "alpha", "metadata", "sequence"],
)
def test_sizes_are_those_of_the_frames(data: bytes, wanted: Sizes) -> None:
    assert coded_sizes(data) == wanted
    assert len(decoded(data)) == 8 * 8 * 3


@pytest.mark.slow
def test_a_file_that_claims_less_than_it_holds_costs_nothing(bomb: bytes) -> None:
    assert Image.open(io.BytesIO(bomb)).size == (64, 64) and len(bomb) < 4096
    assert coded_sizes(bomb) == Sizes(SIDE_PX, SIDE_PX, SIDE_PX**2)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageTooLarge, match=f"{SIDE_PX}×{SIDE_PX} is {SIDE_PX**2} pixels, at most {LIMIT_PX}"):
        decoded(bomb)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 4 * 1024


def test_parts_are_counted_together() -> None:
    data = saved(half_clear(), "AVIF")
    many = data + data[data.index(b"mdat") + 4 :]
    assert decoded(many, 4800) == decoded(data, 4800), "what stands behind the items is none"
    with pytest.raises(ImageTooLarge, match="80×60"):
        decoded(data, 4799)
    frame = unit(1, reduced_header(80, 60)) + unit(6, b"\0") * 5
    with pytest.raises(ImageTooLarge, match="24000 pixels together, at most 19200"):
        decoded(avif(frame), 4800)


def test_of_a_sequence_the_still_picture_is_seen() -> None:
    blue = Image.new("RGB", (32, 32), (0, 0, 255))
    data = saved(Image.new("RGB", (32, 32), (255, 0, 0)), "AVIF", save_all=True, append_images=[blue, blue])
    assert data[8:12] == b"avis" and as_still(data)[8:12] == b"avif"
    red, green, other = decoded(data)[:3]
    assert red > 250 and green < 5 and other < 5


def test_no_decoder_reads_its_exif() -> None:
    """Three thousand tags with one value of 100 kB: to copy each is to fill the memory."""
    bomb = exif_overlapping(3000, 100_000)
    tags = Image.Exif()
    tags[0x010E] = "x" * len(bomb)  # a description
    plain = saved(photo(80, 60), "AVIF", exif=tags)
    start = plain.index(b"MM\0*")
    data = plain[:start] + bomb + plain[start + len(bomb) :]
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert decoded(data) == decoded(saved(photo(80, 60), "AVIF"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 8 * 1024
    assert b"Exif" in plain and len(as_still(plain)) == len(plain)


@pytest.mark.slow
def test_flipped_bytes_raise_nothing_else() -> None:
    data = saved(half_clear(), "AVIF")
    for position in range(12, len(data)):
        for mask in (0xFF, 1, 0x80):
            broken = bytearray(data)
            broken[position] ^= mask
            try:
                decoded(bytes(broken))
            except (InvalidImage, ImageTooLarge):
                continue
