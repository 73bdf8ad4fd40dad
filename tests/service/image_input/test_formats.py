"""Containers: what goes on to a decoder, and structures that none ever sees."""

import os

import pytest

from service.core.errors import InvalidImage
from service.image_input.decoding import to_pixels
from service.image_input.formats import FORMATS, MAX_JPEG_SCANS, first_frame
from tests.attacks.files import (
    EICAR,
    bmp,
    exif,
    exif_overlapping,
    gif,
    gif_comment,
    gif_frame,
    jpeg_scans,
    jpeg_segment,
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

SECRET = EICAR

METADATA = {
    "PNG": png_with(
        png_chunk(b"tEXt", b"Comment\0" + SECRET),
        png_chunk(b"eXIf", exif(6)[6:] + SECRET),
        png_chunk(b"iCCP", b"p\0\0" + SECRET),
        png_chunk(b"acTL", bytes(8)),
        behind=b"PK\x03\x04" + SECRET,
    ),
    "JPEG": jpeg_with(
        jpeg_segment(0xE1, exif(6) + SECRET),
        jpeg_segment(0xE2, b"MPF\0" + SECRET),
        jpeg_segment(0xE2, b"ICC_PROFILE\0" + SECRET),
        jpeg_segment(0xED, SECRET),
        jpeg_segment(0xFE, SECRET),
        behind=saved(photo(), "JPEG") + SECRET,
    ),
    "WEBP": webp(
        webp_canvas(40, 30, 0x2C),
        webp_chunk(b"ICCP", SECRET),
        webp_picture(),
        webp_chunk(b"EXIF", exif(6) + SECRET),
        webp_chunk(b"XMP ", SECRET),
        webp_chunk(b"JUNK", SECRET),
    )
    + SECRET,
    "GIF": gif(gif_comment(SECRET * 9), gif_frame()),
}


@pytest.mark.parametrize("kind", METADATA)
def test_no_metadata_reach_a_decoder(kind: str) -> None:
    data = METADATA[kind]
    frame = first_frame(bytearray(data))
    assert SECRET in data and SECRET not in frame.data and b"Exif" not in frame.data
    assert frame.format == kind and kind in FORMATS
    assert (frame.width_px, frame.height_px, frame.orientation) == ((8, 8, 1) if kind == "GIF" else (40, 30, 6))
    assert len(to_pixels(data, 4, 10_000)) == 48
    assert first_frame(frame.data).data == frame.data


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_a_picture_without_metadata_stays_what_it_is(kind: str) -> None:
    data = saved(photo(), kind)
    assert first_frame(data)[:4] == (kind, 40, 30, 1)
    assert to_pixels(data, 4, 10_000) == to_pixels(first_frame(data).data, 4, 10_000)


def test_an_animation_goes_on_as_its_first_frame() -> None:
    flood = webp_frames(5000)
    frame = first_frame(flood)
    assert len(flood) > 400_000 and len(frame.data) < 2000 and frame.data.count(b"ANMF") == 1
    assert to_pixels(flood, 4, 10_000) == to_pixels(webp(webp_picture()), 4, 10_000)
    moving = first_frame(png_with(png_chunk(b"acTL", bytes(8)), png_chunk(b"fdAT", bytes(99))))
    assert b"acTL" not in moving.data and b"fdAT" not in moving.data


def test_jpeg_scans_are_counted() -> None:
    assert first_frame(jpeg_scans(MAX_JPEG_SCANS))
    with pytest.raises(InvalidImage, match=f"{MAX_JPEG_SCANS + 1} scans"):
        first_frame(jpeg_scans(MAX_JPEG_SCANS + 1))
    thumbnail = jpeg_segment(0xE1, b"Exif\0\0" + b"\xff\xda" * 100)
    assert first_frame(jpeg_with(thumbnail, behind=saved(photo(), "JPEG") * 40))


def test_directories_of_metadata_cost_nothing() -> None:
    """30,000 entries of 100 kB each would be 3 GB, once copied."""
    bomb = exif_overlapping(30_000, 100_000)
    assert first_frame(png_with(png_chunk(b"eXIf", bomb))).orientation == 1
    assert first_frame(webp(webp_canvas(40, 30, 8), webp_picture(), webp_chunk(b"EXIF", bomb))).orientation == 1


BROKEN = {
    "png without header": png(png_chunk(b"IDAT")),
    "png with two headers": png(png_header(8, 8), png_header(9, 9), png_chunk(b"IDAT")),
    "png with its header later": png(png_chunk(b"tEXt"), png_header(8, 8)),
    "png with another end": png_flat(8, 8)[:-12] + b"\0\0\0\0IENX",
    "png with a chunk too long": png_flat(8, 8)[:33] + b"\x7f\xff\xff\xff" + png_flat(8, 8)[37:],
    "png of chunks": png(png_header(8, 8), png_chunk(b"tEXt") * 70_000),
    "png without pixels": png_flat(0, 8),
    "jpeg of nothing": b"\xff\xd8\xff\xd9",
    "jpeg of fill bytes": b"\xff\xd8" + b"\xff" * 100_000,
    "jpeg of segments": b"\xff\xd8" + jpeg_segment(0xFE) * 70_000,
    "jpeg of restarts": b"\xff\xd8" + b"\xff\xd0" * 70_000,
    "jpeg with two frames": jpeg_with(jpeg_segment(0xC0, bytes([8, 0, 9, 0, 9, 1, 1, 17, 0]))),
    "jpeg without height": b"\xff\xd8" + jpeg_segment(0xC0, bytes([8, 0, 0, 0, 9])) + jpeg_segment(0xDA),
    "jpeg with a segment too short": b"\xff\xd8\xff\xfe\0\1" + saved(photo(), "JPEG")[2:],
    "webp of nothing": webp(),
    "webp without a frame": webp(webp_chunk(b"EXIF", b"")),
    "webp of chunks": webp(webp_canvas(8, 8), webp_chunk(b"JUNK", b"") * 70_000),
    "webp with a chunk too long": webp(webp_canvas(8, 8), b"VP8L\xff\xff\xff\x7f"),
    "webp of a short canvas": webp(webp_chunk(b"VP8X", b"\0")),
    "gif without a frame": gif(),
    "gif of blocks": gif(gif_comment(bytes(70_000), 1), gif_frame()),
    "gif without end": gif(gif_comment(b"x"))[:-1],
    "gif of junk": gif(b"\x99", gif_frame()),
    "bmp run-length coded": bmp(8, 8, 8, 1, bytes(300)),
    "bmp with a jpeg inside": bmp(8, 8, 0, 4, bytes(300)),
    "bmp cut off": bmp(100, 100, 24, 0, bytes(100 * 100 * 3 - 1)),
    "bmp upside down and cut off": bmp(100, -100, 24, 0, bytes(99)),
    "bmp of a long header": b"BM" + bytes(8) + b"\x36\0\0\0",
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_structures(name: str) -> None:
    with pytest.raises(InvalidImage):
        first_frame(BROKEN[name])


@pytest.mark.parametrize(
    "data",
    [
        b"", b"hello", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7", b"%!PS-Adobe", b"II*\0", b"MM\0*",
        b"\0\0\0\x0cjP  \r\n", b"\0\0\0 ftypavif", b"\0\0\0 ftypheic", b"RIFF\0\0\0\0WAVE", b"8BPS", b"qoif",
        b"\x89PNG\n\x1a\n", b"GIF88a", b" " + png_flat(8, 8), b"\0" + saved(photo(), "JPEG"),
    ],
)  # fmt: skip
def test_other_formats_are_named_unknown(data: bytes) -> None:
    with pytest.raises(InvalidImage, match="PNG, JPEG, WEBP, GIF, BMP"):
        first_frame(data)


def test_random_bytes_behind_a_signature_never_raise_anything_else() -> None:
    for signature in (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\xff\xff\0\0WEBPVP8X", b"GIF89a", b"BM"):
        for length in range(0, 120):
            try:
                first_frame(signature + os.urandom(length))
            except InvalidImage:
                continue
