"""Picture files, sound and hostile, made of their parts at run time; needs nothing but Pillow."""

import io
import struct
import zlib

from PIL import Image

EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    target = io.BytesIO()
    picture.save(target, kind, **options)
    return target.getvalue()


def photo(width_px: int = 40, height_px: int = 30) -> Image.Image:
    """NonDeterministicReplay in every corner, so that a wrong turn is seen."""
    picture = Image.linear_gradient("L").resize((width_px, height_px))
    return Image.merge("RGB", (picture, picture.transpose(Image.Transpose.ROTATE_180), Image.new("L", picture.size, 9)))


def exif(orientation: int = 1, padding: bytes = b"") -> bytes:
    """An EXIF block whose one entry is the orientation."""
    return (
        b"Exif\0\0MM\0*"
        + struct.pack(">IH", 8, 1)
        + struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
        + b"\0\0\0\0"
        + padding
    )


def exif_overlapping(entries: int, data_bytes: int) -> bytes:
    """A directory in which every entry's value is the same large block: to copy each is to fill the memory."""
    head = b"MM\0*" + struct.pack(">IH", 8, entries)
    start = 10 + entries * 12 + 4
    return (
        head
        + b"".join(struct.pack(">HHII", 0x8000 + i, 7, data_bytes, start) for i in range(entries))
        + b"\0\0\0\0"
        + b"x" * data_bytes
    )


# PNG ----------------------------------------------------------------------------------------------------------------

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png_chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width_px: int, height_px: int, bits: int = 8, colour_type: int = 2, interlace: int = 0) -> bytes:
    return png_chunk(b"IHDR", struct.pack(">IIBBBBB", width_px, height_px, bits, colour_type, 0, 0, interlace))


def png(*chunks: bytes) -> bytes:
    return PNG_SIGNATURE + b"".join(chunks) + png_chunk(b"IEND")


def png_flat(width_px: int, height_px: int, bits: int = 8, colour_type: int = 2, interlace: int = 0) -> bytes:
    """All zeros and not more of them than 1 MiB: a bomb is cut off, as nobody may get as far as its data."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour_type]
    raw_bytes = height_px * (1 + (width_px * channels * bits + 7) // 8)
    data = zlib.compress(bytes(min(raw_bytes, 1 << 20)), 9)
    return png(png_header(width_px, height_px, bits, colour_type, interlace), png_chunk(b"IDAT", data))


def png_with(*extra: bytes, behind: bytes = b"") -> bytes:
    """A sound picture of 40 × 30 with chunks between its header and its data."""
    whole = saved(photo(), "PNG")
    data_start = len(PNG_SIGNATURE) + 25
    return whole[:data_start] + b"".join(extra) + whole[data_start:] + behind


# JPEG ---------------------------------------------------------------------------------------------------------------


def jpeg_segment(marker: int, data: bytes = b"") -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def jpeg_with(*segments: bytes, behind: bytes = b"") -> bytes:
    whole = saved(photo(), "JPEG")
    return whole[:2] + b"".join(segments) + whole[2:] + behind


def jpeg_scans(scans: int, width_px: int = 1000, height_px: int = 1000) -> bytes:
    """A progressive picture of one colour, its last scan once more for each that is wanted."""
    whole = saved(Image.new("L", (width_px, height_px), 99), "JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    own = whole.count(b"\xff\xda")
    return whole[:-2] + whole[last:-2] * (scans - own) + b"\xff\xd9"


def jpeg_sized(width_px: int, height_px: int) -> bytes:
    """A small picture whose header claims another size."""
    whole = bytearray(saved(photo(), "JPEG"))
    frame = whole.index(b"\xff\xc0")
    struct.pack_into(">HH", whole, frame + 5, height_px, width_px)
    return bytes(whole)


# WebP ---------------------------------------------------------------------------------------------------------------


def webp_chunk(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def webp(*chunks: bytes) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp_canvas(width_px: int, height_px: int, flags: int = 0) -> bytes:
    size = (width_px - 1).to_bytes(3, "little") + (height_px - 1).to_bytes(3, "little")
    return webp_chunk(b"VP8X", bytes([flags, 0, 0, 0]) + size)


def webp_picture(width_px: int = 40, height_px: int = 30, lossless: bool = True) -> bytes:
    """The chunk of a still picture."""
    return saved(photo(width_px, height_px), "WEBP", lossless=lossless)[12:]


def webp_frames(frames: int, width_px: int = 40, height_px: int = 30) -> bytes:
    still = webp_picture(width_px, height_px)
    size = (width_px - 1).to_bytes(3, "little") + (height_px - 1).to_bytes(3, "little")
    frame = webp_chunk(b"ANMF", bytes(6) + size + bytes(4) + still)
    return webp(webp_canvas(width_px, height_px, 2), webp_chunk(b"ANIM", bytes(6)), frame * frames)


# GIF ----------------------------------------------------------------------------------------------------------------


def gif(*blocks: bytes, width_px: int = 8, height_px: int = 8) -> bytes:
    """Two colours, then the blocks."""
    screen = struct.pack("<HHBBB", width_px, height_px, 0x80, 0, 0)
    return b"GIF89a" + screen + b"\0\0\0\xff\x80\x40" + b"".join(blocks) + b";"


def gif_frame(width_px: int = 8, height_px: int = 8, left_px: int = 0, top_px: int = 0) -> bytes:
    whole = saved(Image.new("P", (min(width_px, 8), min(height_px, 8)), 1), "GIF")
    data = whole[whole.index(b",", 13 + 6) + 10 : -1]
    return b"," + struct.pack("<HHHHB", left_px, top_px, width_px, height_px, 0) + data


def gif_comment(text: bytes, block_bytes: int = 255) -> bytes:
    pieces = [text[i : i + block_bytes] for i in range(0, len(text), block_bytes)]
    return b"!\xfe" + b"".join(bytes([len(piece)]) + piece for piece in pieces) + b"\0"


# BMP ----------------------------------------------------------------------------------------------------------------


def bmp(width_px: int, height_px: int, bits: int = 24, compression: int = 0, data: bytes = b"") -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width_px, height_px, 1, bits, compression, len(data), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(data), 0, 0, 54) + header + data
