"""AVIF: what its compressed data say of sizes, whatever its headers say."""

import io
import resource
import struct

import pytest
from PIL import Image

from service.core.errors import ImageTooLarge, InvalidImage
from service.image_input.av1_sizes import CodedSizes, UnreadAvif, as_still, coded_sizes
from service.image_input.decoding import to_pixels
from tests.attacks.files import exif, exif_overlapping, photo, saved

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
        (saved(photo(80, 60), "AVIF"), CodedSizes(80, 60, 4800)),
        (saved(photo(81, 61), "AVIF", subsampling="4:2:0"), CodedSizes(81, 61, 4941)),
        (saved(half_clear(), "AVIF"), CodedSizes(80, 60, 9600)),
        (saved(photo(80, 60), "AVIF", exif=exif(6, bytes(99)), xmp=b"<x/>"), CodedSizes(80, 60, 4800)),
        (saved(photo(80, 60), "AVIF", save_all=True, append_images=[photo(80, 60)] * 3), CodedSizes(80, 60, 4800)),
    ],
    ids=["plain", "odd", "alpha", "metadata", "sequence"],
)
def test_sizes_are_those_of_the_frames(data: bytes, wanted: CodedSizes) -> None:
    assert coded_sizes(data) == wanted
    assert len(decoded(data)) == 8 * 8 * 3


def test_a_file_that_claims_less_than_it_holds_costs_nothing(bomb: bytes) -> None:
    assert Image.open(io.BytesIO(bomb)).size == (64, 64) and len(bomb) < 4096
    assert coded_sizes(bomb) == CodedSizes(SIDE_PX, SIDE_PX, SIDE_PX**2)
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


# Bit for bit ----------------------------------------------------------------------------------------------------------


def packed(bits: str) -> bytes:
    padded = bits.replace(" ", "")
    padded += "0" * (-len(padded) % 8)
    return int(padded, 2).to_bytes(len(padded) // 8, "big") + bytes(4)


def dimensions(width_px: int, height_px: int) -> str:
    return f"{15:04b}{15:04b}{width_px - 1:016b}{height_px - 1:016b}"


def reduced_header(width_px: int, height_px: int) -> bytes:
    return packed(f"000 1 1 00000 {dimensions(width_px, height_px)}")


def full_header(timing: str = "0", ids: str = "0") -> bytes:
    """Two operating points, the first of a high level; screen tools and vectors as each frame has them."""
    model = "1" if len(timing) > 66 else "0"
    points = "000000000000 11111 1" + (f"1 {'0' * 9}" if model == "1" else "") + "1 0000"
    points += "000000000000 00000" + ("0" if model == "1" else "") + "0"
    return packed(f"000 0 0 {timing} 1 00001 {points} {dimensions(80, 60)} {ids} 000 0000 1 00 1 1 {'0' * 40}")


def timing(has_equal_intervals: bool) -> str:
    """With a decoder model: delays of four bits, times of nine."""
    return f"1 {'0' * 64} {'1 001 01' if has_equal_intervals else '0'} 1 00011 {'0' * 37} 01000"


def unit(kind: int, data: bytes) -> bytes:
    return bytes([kind << 3 | 2]) + leb128(len(data)) + data


def leb128(number: int) -> bytes:
    return bytes([number & 0x7F | 0x80, number >> 7])


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", len(content) + 8, kind) + content


def avif(*items: bytes) -> bytes:
    """Items in an `idat`, of a file that has no more than this room looks at."""
    places, offset = b"", 0
    for number, item in enumerate(items):
        places += struct.pack(">HHHHII", number + 1, 1, 0, 1, offset, len(item))
        offset += len(item)
    location = box(b"iloc", struct.pack(">IBBH", 1 << 24, 0x44, 0, len(items)) + places)
    return box(b"ftyp", b"avif" + bytes(4)) + box(b"meta", bytes(4) + location + box(b"idat", b"".join(items)))


OWN, SAME = (1 << 16) ** 2, 80 * 60
FRAMES = {  # header, frame header, pixels
    "a key frame of the sequence's size": (full_header(), "0 00 1 0 0 0", SAME),
    "a key frame of its own size": (full_header(), "0 00 1 0 0 1", OWN),
    "with screen tools": (full_header(), "0 00 1 0 1 0 1", OWN),
    "with screen tools and vectors, of the same size": (full_header(), "0 00 1 0 1 1 0", SAME),
    "not shown": (full_header(), "0 00 0 0 0 0 0 1", OWN),
    "not shown, of the same size": (full_header(), "0 00 0 1 1 1 0 0", SAME),
    "an inner frame": (full_header(), "0 10 1 0 0 0 1", OWN),
    "a switch": (full_header(), "0 11 1 0 0 0", OWN),
    "one that is shown again": (full_header(), "1 11 1 1 1 1 1", SAME),
    "with ids": (full_header(ids="1 0001 001"), f"0 00 1 0 0 {'1' * 5} 0", SAME),
    "with ids, of its own size": (full_header(ids="1 0001 001"), f"0 00 1 0 0 {'0' * 5} 1", OWN),
    "at a time": (full_header(timing(False)), f"0 00 1 {'1' * 9} 0 0 0", SAME),
    "at a time, of its own size": (full_header(timing(False)), f"0 00 1 {'0' * 9} 0 0 1", OWN),
    "at equal times": (full_header(timing(True)), "0 00 1 0 0 1", OWN),
}


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_that_brings_its_own_size_counts_as_the_largest(name: str) -> None:
    header, frame, wanted_px = FRAMES[name]
    assert coded_sizes(avif(unit(1, header) + unit(3, packed(frame)))).sum_px == wanted_px


def test_every_item_is_looked_at() -> None:
    small, large = (unit(1, reduced_header(side, side)) + unit(6, b"\0") for side in (64, 9000))
    assert coded_sizes(avif(small, b"Exif", small, large)) == CodedSizes(9000, 9000, 9000**2 + 2 * 64**2)


def located(version: int, sizes: int, *fields: bytes) -> bytes:
    location = box(b"iloc", bytes([version, 0, 0, 0, sizes >> 8, sizes & 255]) + b"".join(fields))
    return box(b"ftyp", b"avif" + bytes(4)) + box(b"meta", bytes(4) + location)


def test_places_of_every_notation() -> None:
    item = unit(1, reduced_header(70, 50)) + unit(6, b"\0")
    for version, count, number in ((0, ">H", ">H"), (1, ">H", ">H"), (2, ">I", ">I")):
        method = b"" if version == 0 else bytes(2)
        head = struct.pack(count, 1) + struct.pack(number, 1) + method + bytes(2)
        for length in (len(item), 0):  # 0: to the end
            places = struct.pack(">QHQQ", 10, 1, 0, length)
            start = len(located(version, 0x8880, head, places))
            data = located(version, 0x8880, head, struct.pack(">QHQQ", start - 5, 1, 5, length)) + item
            assert coded_sizes(data) == CodedSizes(70, 50, 3500)


BROKEN = {
    "without a meta box": box(b"ftyp", b"avif" + bytes(4)),
    "without places": box(b"ftyp", b"avif" + bytes(4)) + box(b"meta", bytes(4)),
    "a box that is too long": box(b"ftyp", b"avif" + bytes(4)) + b"\0\0\xff\xffmeta",
    "a box that is too short": box(b"ftyp", b"avif" + bytes(4)) + b"\0\0\0\4meta",
    "items of others": located(1, 0x4400, b"\0\1", b"\0\1", b"\0\2", bytes(2), b"\0\0"),
    "very many items": located(2, 0x4400, b"\0\1\0\0"),
    "places cut off": located(0, 0x4400, b"\0\2", b"\0\1"),
    "overlapping": located(0, 0x4400, b"\0\1", b"\0\1", bytes(2), b"\0\x09", struct.pack(">II", 0, 0) * 9),
    "a number without end": avif(b"\x0a" + b"\xff" * 9),
    "a header cut off": avif(b"\x0a\1\0"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_structures_are_invalid(name: str) -> None:
    with pytest.raises(UnreadAvif):
        coded_sizes(BROKEN[name])
    with pytest.raises(InvalidImage):
        decoded(BROKEN[name])


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
