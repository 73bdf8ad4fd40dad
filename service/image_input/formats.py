"""Picture files taken apart before any decoder sees them: the format by content, the size, the first frame alone.

Covered: PNG, JPEG, WebP, GIF and BMP; TIFF (tiff.py), AVIF and HEIC where they are installed (other_formats.py). What
goes on to the decoder has no metadata (EXIF, XMP, colour profiles, text, comments, thumbnails; an AVIF loses its EXIF
and its sequence alone, and a HEIC goes on as it is), no later frames and nothing behind the picture, so none of these
can cost memory or time there; EXIF orientation is read here. Structures that take a decoder long for few bytes are
refused: JPEGs of very many scans, run-length coded BMPs, floods of small parts.
Not covered: whether the compressed data are sound; the decoder finds that out within the size known here.
Sources: PNG (W3C, third edition), JPEG (ITU T.81), WebP (RFC 9649), GIF89a, BITMAPINFOHEADER.
"""

import struct
from collections.abc import Callable
from typing import NamedTuple

from service.core.errors import InvalidImage
from service.image_input.exif import orientation
from service.image_input.heif.avif import as_still
from service.image_input.heif.boxes import UnreadHeif
from service.image_input.jpeg_ends import END, brings_all
from service.image_input.other_formats import PILLOW_NAMES, Extra, extra_format, load_decoder, name_of
from service.image_input.tiff import UnreadTiff, first_picture

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")

MAX_JPEG_SCANS = 32  # encoders write about 10; each costs a pass over all pixels, and may take a few bytes
_MAX_PARTS = 65_536  # chunks, segments or blocks walked over

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_KEPT = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_PNG_SAMPLES = {0: 1, 2: 3}  # of a transparent colour, by colour type: grey and RGB
_PNG_PALETTE = 3

_JPEG_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_KEPT = _JPEG_START_OF_FRAME | {0xC4, 0xCC, 0xDB, 0xDD, 0xE0, 0xEE}  # tables, JFIF, and Adobe's colour transform
_JPEG_STANDALONE = frozenset(range(0xD0, 0xD8)) | {0x01}

_WEBP_KEPT = (b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM")
_WEBP_DROPPED_FLAGS = 0x20 | 0x08 | 0x04  # profile, EXIF, XMP
_WEBP_ALPHA, _WEBP_ANIMATION = 0x10, 0x02

_CUT_OFF = "cut off: its data end before it does"

_BMP_UNCOMPRESSED = (0, 3, 6)  # BI_RGB, BI_BITFIELDS, BI_ALPHABITFIELDS


class Frame(NamedTuple):
    """The first frame of a picture, as a file of its own.

    `clear` is the one colour of a PNG that is transparent, in samples of `sample_bits`; `box_px` what a GIF's frame
    covers of its screen (left, top, right, bottom), where that is not all. Where `lacks_end`, a JPEG's end marker is
    added here, and whether all its pixels are there is still to be found out (jpeg_ends.py). An AVIF or HEIC has no
    size here (0 × 0): its decoder tells it before it decodes anything.
    """

    format: str
    width_px: int
    height_px: int
    orientation: int  # EXIF's, 1 to 8
    data: bytes | bytearray
    clear: tuple[int, ...] = ()
    sample_bits: int = 8
    box_px: tuple[int, int, int, int] | None = None
    lacks_end: bool = False


def first_frame(data: bytes | bytearray, extra: tuple[Extra, ...] = ()) -> Frame:
    """The first frame, alone.

    Args:
        extra: formats that are read beside FORMATS.

    Raises:
        InvalidImage: of no known format, cut off, or of a structure that is refused.
    """
    kind = _format(bytes(data[:16]))
    if kind is None:
        found = extra_format(data)
        if found not in extra:
            raise _unknown(data, extra)
        load_decoder(found)
        kind = found
    try:
        frame = _READERS[kind](data)
        if (frame.width_px < 1 or frame.height_px < 1) and kind not in ("AVIF", "HEIC"):
            raise _Broken(f"without pixels: its header tells {frame.width_px}×{frame.height_px}")
    except (_Broken, struct.error, IndexError) as error:
        why = str(error) if isinstance(error, _Broken) else _CUT_OFF
        raise InvalidImage(
            f"image: cannot be decoded, this {kind} of {len(data)} bytes is {why}", param="image"
        ) from None
    return frame


class _Broken(Exception):
    """Why a file is not read, as the end of `it is …`."""


def _unknown(data: bytes | bytearray, extra: tuple[Extra, ...]) -> InvalidImage:
    name = name_of(data)
    what = f", it is {name}" if name else ""
    allowed = ", ".join((*FORMATS, *extra))
    more = "" if extra or extra_format(data) is None else "; this one needs the extra `formats` of viscpm-service"
    return InvalidImage(f"image: not a picture of a known format{what}; allowed: {allowed}{more}", param="image")


def _tiff(data: bytes | bytearray) -> Frame:
    try:
        return Frame("TIFF", *first_picture(data))
    except UnreadTiff as why:
        raise _Broken(str(why)) from None


def _avif(data: bytes | bytearray) -> Frame:
    try:
        return Frame(PILLOW_NAMES["AVIF"], 0, 0, 1, as_still(data))
    except UnreadHeif as why:
        raise _Broken(str(why)) from None


def _heic(data: bytes | bytearray) -> Frame:
    return Frame(PILLOW_NAMES["HEIC"], 0, 0, 1, data)


def _format(start: bytes) -> str | None:
    """Of FORMATS, by the first bytes."""
    if start.startswith(_PNG_SIGNATURE):
        return "PNG"
    if start.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return "WEBP"
    if start.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    return "BMP" if start.startswith(b"BM") else None


def _png(data: bytes | bytearray) -> Frame:
    view = memoryview(data)
    kept: list[bytes | memoryview] = [_PNG_SIGNATURE]
    position, turn, has_data = len(_PNG_SIGNATURE), 1, False
    width_px, height_px, bits, colour_type = 0, 0, 0, 0
    clear: tuple[int, ...] = ()
    for _ in range(_MAX_PARTS):
        if has_data and _PNG_END.startswith(rest := bytes(data[position : position + len(_PNG_END)])):
            data = _with(data, _PNG_END[len(rest) :])  # some writers leave it out, and all else may be there
            view = memoryview(data)
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise _Broken(_CUT_OFF)
        if (kind == b"IHDR") != (len(kept) == 1):
            raise _Broken("without its header in front")
        if kind == b"IHDR":
            width_px, height_px, bits, colour_type = struct.unpack_from(">IIBB", data, position + 8)
        elif kind == b"tRNS" and not has_data:
            if colour_type == _PNG_PALETTE:
                kept.append(view[position:end])
            elif length == 2 * _PNG_SAMPLES.get(colour_type, 0):
                clear = struct.unpack_from(f">{length // 2}H", data, position + 8)
        elif kind == b"eXIf":
            turn = orientation(view[position + 8 : end - 4])
        if kind in _PNG_KEPT:
            kept.append(view[position:end])
        has_data = has_data or kind == b"IDAT"
        if kind == b"IEND":
            clear = tuple(sample & (1 << bits) - 1 for sample in clear)
            return Frame("PNG", width_px, height_px, turn, b"".join(kept), clear, bits)
        position = end
    raise _Broken(f"of more than the {_MAX_PARTS} chunks allowed")


def _jpeg(data: bytes | bytearray) -> Frame:
    view = memoryview(data)
    kept: list[bytes | memoryview] = [b"\xff\xd8"]
    position, turn = 2, 1
    width_px, height_px = 0, 0
    header: memoryview | None = None
    for _ in range(_MAX_PARTS):
        position = data.find(b"\xff", position)  # decoders pass over what lies between segments, and so is it here
        if position < 0:
            raise _Broken(_CUT_OFF)
        marker = data[position + 1]
        if marker in (0x00, 0xFF) or marker in _JPEG_STANDALONE:
            position += 1 if marker == 0xFF else 2
            continue
        if marker in (0xD8, 0xD9):
            raise _Broken("without a frame")
        (length,) = struct.unpack_from(">H", data, position + 2)
        end = position + 2 + length
        if length < 2 or end > len(data):
            raise _Broken(_CUT_OFF)
        if marker in _JPEG_START_OF_FRAME:
            if width_px:
                raise _Broken("with a second frame header")
            height_px, width_px = struct.unpack_from(">HH", data, position + 5)
            header = view[position:end]
        elif marker == 0xE1 and data.startswith(b"Exif\0\0", position + 4):
            turn = orientation(view[position + 4 : end])
        elif marker == 0xDA:
            scans, lacks_end = _scans(view, data, position)
            if lacks_end and not (header and brings_all(scans, header)):
                raise _Broken(_CUT_OFF)
            kept += [scans, END if lacks_end else b""]
            return Frame("JPEG", width_px, height_px, turn, b"".join(kept), lacks_end=lacks_end)
        if marker in _JPEG_KEPT:
            kept.append(view[position:end])
        position = end
    raise _Broken(f"of more than the {_MAX_PARTS} segments allowed")


def _scans(view: memoryview, data: bytes | bytearray, start: int) -> tuple[memoryview, bool]:
    """From the first scan to the end of the picture, which is not the end of the file where another follows.

    And whether there is no end: then without half of a marker.
    """
    found = data.find(END, start)
    end = len(data) - data.endswith(b"\xff") if found < 0 else found + len(END)
    scans = data.count(b"\xff\xda", start, end)  # 0xFF is escaped inside of a scan
    if scans > MAX_JPEG_SCANS:
        raise _Broken(f"of {scans} scans, at most {MAX_JPEG_SCANS} are allowed")
    return view[start:end], found < 0


def _webp(data: bytes | bytearray) -> Frame:
    view = memoryview(data)
    kept: list[bytes | memoryview] = []
    size: tuple[int, int] | None = None
    position, turn, has_animated_frame = 12, 1, False
    file_end = min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    for _ in range(_MAX_PARTS):
        if position + 8 > file_end:
            break
        kind, length = struct.unpack_from("<4sI", data, position)
        start, end = position + 8, position + 8 + length
        if end > file_end:
            raise _Broken(_CUT_OFF)
        size = size or _webp_size(kind, data, start)
        if kind == b"VP8X":
            flags = data[start] & ~_WEBP_DROPPED_FLAGS
            if flags & _WEBP_ANIMATION:  # what its frame does not cover of the canvas is transparent
                flags |= _WEBP_ALPHA
            kept += [view[position:start], bytes([flags]), view[start + 1 : end]]
        elif kind in _WEBP_KEPT or (kind == b"ANMF" and not has_animated_frame):
            has_animated_frame = has_animated_frame or kind == b"ANMF"
            kept.append(view[position:end])
            if length % 2:
                kept.append(b"\0")
        elif kind == b"EXIF":
            turn = orientation(view[start:end])
        position = end + length % 2
    else:
        raise _Broken(f"of more than the {_MAX_PARTS} chunks allowed")
    if size is None:
        raise _Broken("without a frame")
    body = b"".join(kept)
    return Frame("WEBP", *size, turn, b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body)


def _webp_size(kind: bytes, data: bytes | bytearray, start: int) -> tuple[int, int] | None:
    """(width, height) that a chunk tells, where it is one that does."""
    if kind == b"VP8X":
        low_width, high_width, low_height, high_height = struct.unpack_from("<HBHB", data, start + 4)
        return (low_width | high_width << 16) + 1, (low_height | high_height << 16) + 1
    if kind == b"VP8 ":
        width_px, height_px = struct.unpack_from("<HH", data, start + 6)
        return width_px & 0x3FFF, height_px & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, start + 1)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return None


def _gif(data: bytes | bytearray) -> Frame:
    screen_width_px, screen_height_px, flags = struct.unpack_from("<HHB", data, 6)
    position = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    kept = [bytes(data[:position])]
    parts = 0
    while data[position] == 0x21:
        start, label = position, data[position + 1]
        position += 2
        while data[position]:
            position += 1 + data[position]
            parts += 1
            if parts > _MAX_PARTS:
                raise _Broken(f"of more than the {_MAX_PARTS} blocks allowed before its first frame")
        position += 1
        if label == 0xF9:  # the frame's transparent colour: what it does not cover has this one
            kept.append(bytes(data[start:position]))
    if data[position] != 0x2C:
        raise _Broken("without a frame")
    left_px, top_px, width_px, height_px = struct.unpack_from("<HHHH", data, position + 1)
    box_px = (left_px, top_px, left_px + width_px, top_px + height_px)
    width_px, height_px = max(screen_width_px, box_px[2]), max(screen_height_px, box_px[3])
    kept.append(bytes(memoryview(data)[position:]))
    covers_all = box_px == (0, 0, width_px, height_px)
    return Frame("GIF", width_px, height_px, 1, b"".join(kept), box_px=None if covers_all else box_px)


def _bmp(data: bytes | bytearray) -> Frame:
    pixels_start, header_bytes = struct.unpack_from("<II", data, 10)
    compression = 0
    if header_bytes == 12:
        width_px, height_px, _, bits = struct.unpack_from("<HHHH", data, 18)
    else:
        width_px, height_px, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    if compression not in _BMP_UNCOMPRESSED:
        raise _Broken(f"of compression {compression}; allowed: 0 (none), and 3 and 6 (bit fields)")
    height_px = abs(height_px)
    used_bytes, row_bytes = (width_px * bits + 7) // 8, (width_px * bits + 31) // 32 * 4
    missing_bytes = pixels_start + row_bytes * height_px - len(data)
    if missing_bytes > row_bytes - used_bytes:
        raise _Broken(_CUT_OFF)
    return Frame("BMP", width_px, height_px, 1, _with(data, bytes(max(0, missing_bytes))))


def _with(data: bytes | bytearray, end: bytes) -> bytes | bytearray:
    return data + end if end else data


_READERS: dict[str, Callable[[bytes | bytearray], Frame]] = {
    "PNG": _png,
    "JPEG": _jpeg,
    "WEBP": _webp,
    "GIF": _gif,
    "BMP": _bmp,
    "TIFF": _tiff,
    "AVIF": _avif,
    "HEIC": _heic,
}
