"""The container: items at every kind of place, and broken structures."""

import struct

import pytest

from service.core.errors import InvalidImage
from service.image_input.decoding import to_pixels
from service.image_input.heif.avif import coded_sizes
from service.image_input.heif.boxes import UnreadHeif
from service.image_input.heif.sizes import Sizes
from tests.service.image_input.heif.files import avif, box, located, reduced_header, unit


def test_every_item_is_looked_at() -> None:
    small, large = (unit(1, reduced_header(side, side)) + unit(6, b"\0") for side in (64, 9000))
    assert coded_sizes(avif(small, b"Exif", small, large)) == Sizes(9000, 9000, 9000**2 + 2 * 64**2)


def test_what_is_told_to_be_something_else_is_no_picture() -> None:
    """Text may begin as a unit of AV1 does; what is told to be both is looked at."""
    frame = unit(1, reduced_header(64, 64)) + unit(6, b"\0")
    for kinds, wanted in (((b"av01", b"mime"), 1), ((b"mime", b"mime"), 0), ((b"mime", b"mime", b"av01"), 1)):
        data = avif(frame, b"rdf" + b"\xff" * 9 if wanted and len(kinds) == 2 else frame)
        entries = b"".join(
            box(b"infe", b"\2\0\0\0" + struct.pack(">H", min(number, 2)) + bytes(2) + kind + b"\0")
            for number, kind in enumerate(kinds, 1)
        )
        infos = box(b"iinf", bytes(4) + struct.pack(">H", len(kinds)) + entries)
        place = data.index(b"iloc") - 4
        whole = bytearray(data[:place] + infos + data[place:])
        struct.pack_into(">I", whole, 16, len(whole) - 16)
        assert coded_sizes(bytes(whole)).sum_px == wanted * 64 * 64


def test_places_of_every_notation() -> None:
    item = unit(1, reduced_header(70, 50)) + unit(6, b"\0")
    for version, count, number in ((0, ">H", ">H"), (1, ">H", ">H"), (2, ">I", ">I")):
        method = b"" if version == 0 else bytes(2)
        head = struct.pack(count, 1) + struct.pack(number, 1) + method + bytes(2)
        for length in (len(item), 0):  # 0: to the end
            places = struct.pack(">QHQQ", 10, 1, 0, length)
            start = len(located(version, 0x8880, head, places))
            data = located(version, 0x8880, head, struct.pack(">QHQQ", start - 5, 1, 5, length)) + item
            assert coded_sizes(data) == Sizes(70, 50, 3500)


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
    with pytest.raises(UnreadHeif):
        coded_sizes(BROKEN[name])
    with pytest.raises(InvalidImage):
        to_pixels(BROKEN[name], 8, 10**6, extra=("AVIF",))
