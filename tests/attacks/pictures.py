"""Picture files that try to be too much for a decoder, or to be something else. Those without a code are harmless."""

import gzip
import os
import struct
import zlib
from functools import cache

from PIL import Image

from tests.attacks.case import Case, picture_case
from tests.attacks.files import (
    EICAR,
    PNG_SIGNATURE,
    bmp,
    exif,
    exif_overlapping,
    gif,
    gif_comment,
    gif_frame,
    jpeg_scans,
    jpeg_segment,
    jpeg_sized,
    jpeg_with,
    photo,
    png,
    png_chunk,
    png_flat,
    png_header,
    png_with,
    saved,
    webp,
    webp_canvas,
    webp_chunk,
    webp_frames,
    webp_picture,
)

_MIB = 1 << 20
_SVG = b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'><image href='http://127.0.0.1/'/></svg>"
_HTML = b"<html><script>alert(1)</script></html>"


@cache
def _zeros(count_bytes: int) -> bytes:
    return zlib.compress(bytes(count_bytes), 9)


@cache
def _progressive_bomb() -> bytes:
    return jpeg_scans(5000, 1000, 1000)


@cache
def _large(kind: str) -> bytes:
    """Longer than one read, sound."""
    return saved(photo(640, 427), kind)


TOO_LARGE = [
    picture_case("png of 50,000 × 50,000, 1 bit", lambda: png_flat(50_000, 50_000, 1, 0), "image_too_large"),
    picture_case("png of 50,000 × 50,000, 16 bit rgba", lambda: png_flat(50_000, 50_000, 16, 6), "image_too_large"),
    picture_case("png of 2³¹ × 2³¹", lambda: png_flat(2**31 - 1, 2**31 - 1), "image_too_large"),
    picture_case("png of 30,000 × 30,000, interlaced", lambda: png_flat(30_000, 30_000, 8, 2, 1), "image_too_large"),
    picture_case("png of 50 million × 1", lambda: png_flat(50_000_000, 1, 1, 0), "image_too_large"),
    picture_case("png of 1 × 50 million", lambda: png_flat(1, 50_000_000, 1, 0), "image_too_large"),
    picture_case("jpeg of 65,000 × 65,000", lambda: jpeg_sized(65_000, 65_000), "image_too_large"),
    picture_case(
        "gif of 65,535 × 65,535", lambda: gif(gif_frame(), width_px=65_535, height_px=65_535), "image_too_large"
    ),
    picture_case("gif whose frame leaves its screen", lambda: gif(gif_frame(8, 8, 65_000, 65_000)), "image_too_large"),
    picture_case(
        "webp canvas of 16,383 × 16,383", lambda: webp(webp_canvas(16_383, 16_383), webp_picture()), "image_too_large"
    ),
    picture_case("webp canvas of 2²⁴ × 2²⁴", lambda: webp(webp_canvas(2**24, 2**24, 2)), "image_too_large"),
    picture_case(
        "webp lossless of 16,384 × 16,384",
        lambda: webp(webp_chunk(b"VP8L", b"\x2f\xff\xff\xff\x0f" + bytes(9))),
        "image_too_large",
    ),
]

STRUCTURES = [
    picture_case("jpeg of 5,000 scans", _progressive_bomb, "invalid_image"),
    picture_case("jpeg of 70,000 segments", lambda: b"\xff\xd8" + jpeg_segment(0xFE) * 70_000, "invalid_image"),
    picture_case("jpeg of a megabyte of fill bytes", lambda: b"\xff\xd8" + b"\xff" * _MIB, "invalid_image"),
    picture_case(
        "jpeg with two frame headers",
        lambda: jpeg_with(jpeg_segment(0xC0, b"\x08\xff\xff\xff\xff\x01\x01\x11\0")),
        "invalid_image",
    ),
    picture_case(
        "jpeg without a height",
        lambda: b"\xff\xd8" + jpeg_segment(0xC0, b"\x08\0\0\0\x09") + jpeg_segment(0xDA),
        "invalid_image",
    ),
    picture_case(
        "jpeg of 12 bits", lambda: jpeg_with().replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"), "invalid_image"
    ),
    picture_case("jpeg without tables", lambda: jpeg_with().replace(b"\xff\xdb", b"\xff\xfe"), "invalid_image"),
    picture_case("png of 70,000 chunks", lambda: png(png_header(8, 8), png_chunk(b"tEXt") * 70_000), "invalid_image"),
    picture_case(
        "png chunk of 2 GB", lambda: png_flat(8, 8)[:33] + b"\x7f\xff\xff\xff" + png_flat(8, 8)[37:], "invalid_image"
    ),
    picture_case(
        "png with a wrong checksum", lambda: png_flat(8, 8)[:32] + b"\0" + png_flat(8, 8)[33:], "invalid_image"
    ),
    picture_case("png with a second header", lambda: png(png_header(8, 8), png_header(9000, 9000)), "invalid_image"),
    picture_case("png without data", lambda: png(png_header(8, 8)), "invalid_image"),
    picture_case("png of no width", lambda: png_flat(0, 8), "invalid_image"),
    picture_case(
        "png of an impossible colour type",
        lambda: png(png_header(8, 8, 8, 5), png_chunk(b"IDAT", _zeros(999))),
        "invalid_image",
    ),
    picture_case(
        "png with too little data",
        lambda: png(png_header(4000, 4000), png_chunk(b"IDAT", _zeros(999))),
        "invalid_image",
    ),
    picture_case("gif of 70,000 blocks", lambda: gif(gif_comment(bytes(70_000), 1), gif_frame()), "invalid_image"),
    picture_case("gif without a frame", lambda: gif(gif_comment(b"x")), "invalid_image"),
    picture_case("gif of nothing", lambda: b"GIF89a", "invalid_image"),
    picture_case(
        "webp of 70,000 chunks", lambda: webp(webp_canvas(8, 8), webp_chunk(b"JUNK", b"") * 70_000), "invalid_image"
    ),
    picture_case("webp canvas unlike its frame", lambda: webp(webp_canvas(900, 900), webp_picture()), "invalid_image"),
    picture_case(
        "webp lossless huffman flood",
        lambda: webp(webp_chunk(b"VP8L", b"\x2f\xff\xc0\x3f\0" + b"\xff" * 4000)),
        "invalid_image",
    ),
    picture_case("bmp run-length coded", lambda: bmp(5000, 5000, 8, 1, b"\x01\x00" * 100_000), "invalid_image"),
    picture_case("bmp with a png inside", lambda: bmp(8, 8, 0, 5, png_flat(8, 8)), "invalid_image"),
    picture_case("bmp of 7,000 × 7,000 without data", lambda: bmp(7000, 7000), "invalid_image"),
    picture_case("bmp of a negative height without data", lambda: bmp(7000, -7000), "invalid_image"),
    picture_case("bmp of a negative width", lambda: bmp(-8, 8, 24, 0, bytes(300)), "invalid_image"),
]

CUT_OFF = [
    picture_case(
        f"{kind.lower()} cut off {where}",
        lambda kind=kind, share=share: _large(kind)[: max(12, int(len(_large(kind)) * share))],
        "invalid_image",
    )  # type: ignore[misc]
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP")
    for where, share in (("in its header", 0.0), ("half way", 0.5))
]

FOREIGN = [
    picture_case("svg", lambda: _SVG, "invalid_image"),
    picture_case("svg, compressed", lambda: gzip.compress(_SVG), "invalid_image"),
    picture_case("html", lambda: _HTML, "invalid_image"),
    picture_case("pdf", lambda: b"%PDF-1.7\n1 0 obj<</Type/Catalog>>", "invalid_image"),
    picture_case("eps", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) run", "invalid_image"),
    picture_case("tiff of a jpeg", lambda: saved(photo(), "TIFF", compression="jpeg"), "invalid_image"),
    picture_case("tiff of 65,535 directories", lambda: b"II*\0\x08\0\0\0" + b"\xff\xff" * _MIB, "invalid_image"),
    picture_case("ico", lambda: saved(photo(), "ICO"), "invalid_image"),
    picture_case("pnm", lambda: b"P6 60000 60000 255\n", "invalid_image"),
    picture_case("jpeg 2000", lambda: b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(64), "invalid_image"),
    picture_case("avif", lambda: b"\0\0\0\x1cftypavif" + bytes(64), "invalid_image"),
    picture_case("heic", lambda: b"\0\0\0\x1cftypheic" + bytes(64), "invalid_image"),
    picture_case("photoshop", lambda: b"8BPS\0\x01" + bytes(64), "invalid_image"),
    picture_case(
        "imagemagick script", lambda: b"push graphic-context\nfill 'url(https://127.0.0.1/\"|id\")'", "invalid_image"
    ),
    picture_case("zip", lambda: b"PK\x03\x04" + bytes(64), "invalid_image"),
    picture_case("elf", lambda: b"\x7fELF" + bytes(64), "invalid_image"),
    picture_case("the antivirus test file", lambda: EICAR, "invalid_image"),
    picture_case("html in front of a png", lambda: _HTML + png_flat(8, 8), "invalid_image"),
    picture_case("a png that is text behind its signature", lambda: PNG_SIGNATURE + _HTML, "invalid_image"),
    picture_case("random bytes", lambda: os.urandom(4096), "invalid_image"),
    picture_case("a megabyte of zeros", lambda: bytes(_MIB), "invalid_image"),
]

# Nothing of what they carry reaches a decoder, so they are answered as the pictures that they are
HARMLESS = [
    picture_case("png with a profile of 32 MB", lambda: png_with(png_chunk(b"iCCP", b"p\0\0" + _zeros(32 * _MIB))), ""),
    picture_case(
        "png with 30 texts of 8 MB", lambda: png_with(*[png_chunk(b"zTXt", b"t\0\0" + _zeros(8 * _MIB))] * 30), ""
    ),
    picture_case(
        "png with an exif directory of gigabytes",
        lambda: png_with(png_chunk(b"eXIf", exif_overlapping(30_000, 100_000))),
        "",
    ),
    picture_case(
        "webp with an exif directory of gigabytes",
        lambda: webp(webp_canvas(40, 30, 8), webp_picture(), webp_chunk(b"EXIF", exif_overlapping(30_000, 100_000))),
        "",
    ),
    picture_case(
        "png with 50,000 frames",
        lambda: png_with(png_chunk(b"acTL", struct.pack(">II", 50_000, 0)), png_chunk(b"fcTL", bytes(26)) * 50_000),
        "",
    ),
    picture_case("gif of 20,000 frames", lambda: gif(gif_frame() * 20_000), ""),
    picture_case("webp of 10,000 frames", lambda: webp_frames(10_000), ""),
    picture_case("jpeg with malware in its exif", lambda: jpeg_with(jpeg_segment(0xE1, exif(1, EICAR))), ""),
    picture_case("jpeg with html in its comment", lambda: jpeg_with(jpeg_segment(0xFE, _HTML)), ""),
    picture_case("png with an archive behind it", lambda: png_with(behind=b"PK\x03\x04" + bytes(999)), ""),
    picture_case(
        "jpeg with a broken exif", lambda: jpeg_with(jpeg_segment(0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xff")), ""
    ),
    picture_case("jpeg turned by its exif", lambda: jpeg_with(jpeg_segment(0xE1, exif(6))), ""),
    picture_case("png of one pixel", lambda: png_flat(1, 1), ""),
    picture_case("png of 16 bits, grey", lambda: png_flat(64, 64, 16, 0), ""),
    picture_case("jpeg of four inks", lambda: saved(Image.new("CMYK", (64, 64)), "JPEG"), ""),
    picture_case("png of a palette, transparent", lambda: saved(photo().convert("P"), "PNG", transparency=0), ""),
]

CASES: list[Case] = TOO_LARGE + STRUCTURES + CUT_OFF + FOREIGN + HARMLESS
