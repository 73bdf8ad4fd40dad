"""TIFF files taken apart: the first picture, with only those tags that its pixels need.

What goes on to the decoder has its directory replaced in its place; all other tags (EXIF, profiles, XMP) are never
looked at there. Refused: BigTIFF; JPEG inside, whose scans are not counted here; fax codes, whose decoder goes on over
broken rows with a line on stderr for each; samples that are no whole numbers of 1 to 16 bits; and counts that would
cost memory before a pixel is read.
Source: TIFF revision 6.0.
"""

import struct
from typing import NamedTuple

MAX_STRIPS = 65_536
_MAX_TILE_PX = 1 << 20  # or the picture's size: a decoder allocates a whole tile
_ENTRY_BYTES = 12
_SIZES = {1: 1, 3: 2, 4: 4}  # BYTE, SHORT, LONG
_LETTERS = {1: "B", 3: "H", 4: "I"}
_COMPRESSIONS = {1: "none", 5: "LZW", 8: "deflate", 32773: "PackBits", 32946: ""}
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _ORIENTATION = 256, 257, 258, 259, 274
_SAMPLES, _TILE_WIDTH, _TILE_HEIGHT, _SAMPLE_FORMAT = 277, 322, 323, 339
_MAX_COUNTS = {
    **dict.fromkeys((_WIDTH, _HEIGHT, _COMPRESSION, _SAMPLES, _TILE_WIDTH, _TILE_HEIGHT, _ORIENTATION), 1),
    **dict.fromkeys((262, 266, 278, 284, 317), 1),  # photometric, fill order, rows of a strip, planes, predictor
    **dict.fromkeys((_BITS, _SAMPLE_FORMAT, 338), 5),  # and extra samples
    **dict.fromkeys((273, 279, 324, 325), MAX_STRIPS),  # offsets and lengths of strips and tiles
    320: 3 * 256,  # a palette
}


class Tiff(NamedTuple):
    """The first picture of a file, alone in it."""

    width_px: int
    height_px: int
    orientation: int
    data: bytes


class UnreadTiff(Exception):
    """Why a TIFF is not read, as the end of `this TIFF is …`."""


def first_picture(data: bytes | bytearray) -> Tiff:
    """Raises UnreadTiff, struct.error where the file is cut off."""
    order = "<" if data[:2] == b"II" else ">"
    if data[2:4] != struct.pack(f"{order}H", 42):
        raise UnreadTiff("a BigTIFF; allowed: TIFF of 32-bit offsets")
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, start)
    kept: dict[int, bytes] = {}
    values: dict[int, tuple[int, ...]] = {}
    for position in range(start + 2, start + 2 + count * _ENTRY_BYTES, _ENTRY_BYTES):
        tag, kind, length = struct.unpack_from(f"{order}HHI", data, position)
        if tag not in _MAX_COUNTS or tag in kept:
            continue
        if kind not in _SIZES or length > _MAX_COUNTS[tag]:
            raise UnreadTiff(
                f"of {length} values of type {kind} in tag {tag}; allowed: up to {_MAX_COUNTS[tag]} of type 1, 3 or 4"
            )
        kept[tag] = bytes(data[position : position + _ENTRY_BYTES])
        size = _SIZES[kind] * length
        at = position + 8 if size <= 4 else struct.unpack_from(f"{order}I", data, position + 8)[0]
        values[tag] = struct.unpack_from(f"{order}{length}{_LETTERS[kind]}", data, at)
    _check(values)
    turn = values.get(_ORIENTATION, (1,))[0]
    kept.pop(_ORIENTATION, None)  # the turn is done after decoding, as for the other formats
    directory = struct.pack(f"{order}H", len(kept)) + b"".join(kept[tag] for tag in sorted(kept)) + bytes(4)
    end = start + len(directory)
    if end > len(data):
        raise UnreadTiff("cut off: its data end before it does")
    view = memoryview(data)
    alone = b"".join((view[:start], directory, view[end:]))
    return Tiff(values[_WIDTH][0], values[_HEIGHT][0], turn if 1 <= turn <= 8 else 1, alone)


def _check(values: dict[int, tuple[int, ...]]) -> None:
    if not values.get(_WIDTH) or not values.get(_HEIGHT):
        raise UnreadTiff("without a size: it lacks tag 256 or 257")
    if empty := [tag for tag, content in values.items() if not content]:
        raise UnreadTiff(f"of no value in tag {empty[0]}; allowed: one or more")
    compression = values.get(_COMPRESSION, (1,))[0]
    if compression not in _COMPRESSIONS:
        allowed = ", ".join(dict.fromkeys(name for name in _COMPRESSIONS.values() if name))
        raise UnreadTiff(f"of compression {compression}; allowed: {allowed}")
    bits, samples = values.get(_BITS, ()), values.get(_SAMPLES, (1,))[0]
    if any(count not in (1, 2, 4, 8, 16) for count in bits) or samples > 5:
        raise UnreadTiff(
            f"of {samples} samples of {', '.join(map(str, bits)) or '1'} bits; allowed: up to 5 of 1, 2, 4, 8 or 16"
        )
    if other := [kind for kind in values.get(_SAMPLE_FORMAT, ()) if kind != 1]:
        raise UnreadTiff(f"of sample format {other[0]}; allowed: 1 (whole numbers from 0)")
    tile_px = values.get(_TILE_WIDTH, (0,))[0] * values.get(_TILE_HEIGHT, (0,))[0]
    allowed_px = max(_MAX_TILE_PX, values[_WIDTH][0] * values[_HEIGHT][0])
    if tile_px > allowed_px:
        raise UnreadTiff(f"of tiles of {tile_px} pixels; allowed: up to {allowed_px}")
