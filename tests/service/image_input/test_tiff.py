"""TIFF: the pixels of each kind of samples and compression, the tags that go on, and what no decoder ever sees."""

import struct

import pytest
from PIL import Image

from service.core.errors import ImageTooLarge, InvalidImage
from service.image_input.decoding import to_pixels
from service.image_input.tiff import MAX_STRIPS, UnreadTiff, first_picture
from tests.attacks.files import EICAR, exif_overlapping, photo, saved

SIDE_PX, LIMIT_PX = 16, 1_000_000


def decoded(data: bytes, background: tuple[int, int, int] | None = None, limit_px: int = LIMIT_PX) -> bytes:
    return to_pixels(data, SIDE_PX, limit_px, background=background, extra=("TIFF",))


def wanted(picture: Image.Image) -> bytes:
    return picture.convert("RGB").resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC).tobytes()


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "CMYK"])
def test_samples_and_compressions(mode: str, compression: str) -> None:
    picture = photo().convert(mode)
    data = saved(picture, "TIFF", compression=compression)
    assert decoded(data) == decoded(data, (1, 2, 3)) == wanted(picture)


def test_faxes_are_refused_by_name() -> None:
    for compression, number in (("group3", 3), ("group4", 4)):
        with pytest.raises(InvalidImage, match=f"compression {number}; allowed: none, LZW, deflate, PackBits"):
            decoded(saved(photo().convert("1"), "TIFF", compression=compression))


def test_alpha_is_composed_or_dropped() -> None:
    clear = saved(Image.new("RGBA", (8, 8), (0, 255, 0, 0)), "TIFF")
    assert decoded(clear, (9, 8, 7)) == bytes([9, 8, 7]) * SIDE_PX**2
    assert decoded(clear) == bytes([0, 255, 0]) * SIDE_PX**2


def test_16_bits_are_rounded_to_8() -> None:
    assert decoded(saved(Image.new("I;16", (4, 4), 32768), "TIFF")) == bytes([128]) * SIDE_PX**2 * 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_turn_is_that_of_the_other_formats(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = photo()
    as_png = to_pixels(saved(stored, "PNG", exif=exif), SIDE_PX, LIMIT_PX)
    assert decoded(saved(stored, "TIFF", tiffinfo={274: orientation})) == as_png


def test_no_other_tag_goes_on_to_the_decoder() -> None:
    data = saved(photo(), "TIFF", tiffinfo={270: EICAR.decode(), 700: EICAR})
    alone = first_picture(data)
    assert alone[:3] == (40, 30, 1)
    (start,) = struct.unpack_from("<I", alone.data, 4)
    (count,) = struct.unpack_from("<H", alone.data, start)
    tags = [struct.unpack_from("<H", alone.data, start + 2 + 12 * index)[0] for index in range(count)]
    assert {256, 257, 273} <= set(tags) and not {270, 700} & set(tags) and tags == sorted(tags)
    assert decoded(data) == wanted(photo())


def test_later_pages_are_not_looked_at() -> None:
    other = Image.new("RGB", (9, 9))
    assert decoded(saved(photo(), "TIFF", save_all=True, append_images=[other, other])) == wanted(photo())


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_a_file_cut_off_is_invalid(compression: str) -> None:
    noise = Image.effect_noise((60, 60), 60)
    plain = saved(noise, "TIFF", compression=compression)
    for share in (0.5, 0.9, 0.99):
        with pytest.raises(InvalidImage):
            decoded(plain[: int(len(plain) * share)])


def tiff(*entries: tuple[int, int, int, int]) -> bytes:
    head = b"II*\0" + struct.pack("<IH", 8, len(entries))
    return head + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4) + bytes(99)


SIZE = ((256, 4, 1, 8), (257, 4, 1, 8))
BROKEN = {
    "of no size": tiff((256, 4, 1, 8)),
    "of no pixels": tiff((256, 4, 1, 0), (257, 4, 1, 8)),
    "with an empty tag": tiff(*SIZE, (258, 3, 0, 8)),
    "of strips": tiff(*SIZE, (273, 4, MAX_STRIPS + 1, 8)),
    "of a jpeg": tiff(*SIZE, (259, 3, 1, 7)),
    "of floats": tiff(*SIZE, (339, 3, 1, 3)),
    "of 32 bits": tiff(*SIZE, (258, 3, 1, 32)),
    "of many samples": tiff(*SIZE, (277, 3, 1, 6)),
    "of large tiles": tiff(*SIZE, (322, 4, 1, 65_520), (323, 4, 1, 65_520)),
    "of another type": tiff((256, 5, 1, 8), (257, 4, 1, 8)),
    "big": b"II+\0\x08\0\0\0" + bytes(99),
    "of nothing": b"II*\0",
    "with its directory outside": b"MM\0*\xff\xff\xff\xff",
    "of directories": b"II*\0\x08\0\0\0" + b"\xff\xff" * 100_000,
    "whose values are outside": tiff(*SIZE, (258, 3, 4, 0xFFFFFF)),
    "with gigabytes of overlapping values": exif_overlapping(30_000, 100_000)[:4]
    + exif_overlapping(30_000, 100_000)[4:],
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_structures(name: str) -> None:
    with pytest.raises(InvalidImage):
        decoded(BROKEN[name])


def test_caps_are_those_of_the_other_formats() -> None:
    with pytest.raises(ImageTooLarge, match="40×30 is 1200 pixels"):
        decoded(saved(photo(), "TIFF"), limit_px=1199)
    with pytest.raises(ImageTooLarge):
        decoded(tiff((256, 4, 1, 2**31), (257, 4, 1, 2**31)))


def test_why_a_file_is_not_read_is_said() -> None:
    with pytest.raises(UnreadTiff, match="compression 7; allowed: none, LZW, deflate, PackBits"):
        first_picture(BROKEN["of a jpeg"])
    with pytest.raises(UnreadTiff, match="BigTIFF"):
        first_picture(BROKEN["big"])
