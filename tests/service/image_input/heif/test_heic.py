"""HEIC: the sizes of all items, and files that would keep a decoder busy without end."""

import struct
from typing import Any

import pytest
from PIL import Image

from service.core.errors import ImageTooLarge, InvalidImage
from service.image_input.decoding import to_pixels
from service.image_input.heif.boxes import UnreadHeif
from service.image_input.heif.heic import told_sizes
from service.image_input.heif.sizes import Sizes
from tests.attacks.files import photo
from tests.service.heic import heic

TILE_PX = 64


def decoded(data: bytes, limit_px: int = 1_000_000) -> bytes:
    return to_pixels(data, 8, limit_px, extra=("HEIC",))


def half_clear() -> Image.Image:
    picture = photo(128, 64).convert("RGBA")
    picture.putalpha(100)
    return picture


def grid(columns: int = 4, rows: int = 3, **options: Any) -> bytes:
    return heic(photo(columns * TILE_PX, rows * TILE_PX), tile_size=TILE_PX, **options)


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (heic(photo(128, 64)), Sizes(128, 64, 128 * 64)),
        (heic(half_clear()), Sizes(128, 64, 2 * 128 * 64)),
        (heic(photo(128, 64), photo(64, 64)), Sizes(128, 64, 128 * 64 + 64 * 64)),
        (grid(), Sizes(256, 192, 2 * 256 * 192)),
    ],
    ids=["plain", "alpha", "two pictures", "grid"],
)
def test_sizes_are_those_of_all_items(data: bytes, wanted: Sizes) -> None:
    assert told_sizes(data) == wanted
    assert len(decoded(data)) == 8 * 8 * 3


@pytest.mark.slow
def test_tiles_that_the_picture_does_not_show_count_as_well() -> None:
    data, size = grid(), struct.pack(">II", 256, 192)
    small = struct.pack(">II", 64, 64)
    assert data.count(size) == 1
    hidden = data.replace(size, small).replace(struct.pack(">HH", 256, 192), struct.pack(">HH", 64, 64))
    assert told_sizes(hidden) == Sizes(64, 64, 13 * 64 * 64)
    assert len(decoded(hidden, 13 * 64 * 64)) == 8 * 8 * 3, "its decoder takes it"
    with pytest.raises(ImageTooLarge, match=f"{13 * 64 * 64} pixels together, at most {4 * 64 * 64}"):
        decoded(hidden, 64 * 64)


def test_a_picture_of_whole_blocks_may_be_as_large_as_any() -> None:
    """80 × 60 is coded as 80 × 64."""
    assert len(decoded(heic(photo(80, 60)), 80 * 60)) == 8 * 8 * 3
    with pytest.raises(ImageTooLarge, match="80×60 is 4800 pixels"):
        decoded(heic(photo(80, 60)), 80 * 60 - 1)


# Boxes made by hand ---------------------------------------------------------------------------------------------------


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", len(content) + 8, kind) + content


def file_of(
    kinds: dict[int, bytes], made_of: dict[int, tuple[int, ...]], version: int = 0, wide: bool = False
) -> bytes:
    """Items of 100 × 50; versions 0 and 1 of the boxes differ in how wide an item's number is."""
    number = ">I" if version else ">H"
    entries = b"".join(
        box(b"infe", bytes([3 if version else 2, 0, 0, 0]) + struct.pack(number, item) + bytes(2) + kind + b"\0")
        for item, kind in kinds.items()
    )
    infos = box(b"iinf", bytes([version, 0, 0, 0]) + struct.pack(">I" if version else ">H", len(kinds)) + entries)
    references = b"".join(
        box(
            b"dimg",
            struct.pack(number, item)
            + struct.pack(">H", len(parts))
            + b"".join(struct.pack(number, part) for part in parts),
        )
        for item, parts in made_of.items()
    )
    sized = struct.pack(">BH", 1, 0x8002) if wide else b"\1\x82"
    sizes = box(b"ipco", box(b"pixi", bytes(8)) + box(b"ispe", bytes(4) + struct.pack(">II", 100, 50)))
    sizes += box(
        b"ipma",
        bytes([version, 0, 0, int(wide)])
        + struct.pack(">I", len(kinds))
        + b"".join(struct.pack(number, item) + sized for item in kinds),
    )
    inner = infos + box(b"iref", bytes([version, 0, 0, 0]) + references) + box(b"iprp", sizes)
    return box(b"ftyp", b"heic" + bytes(4)) + box(b"meta", bytes(4) + inner)


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("wide", [False, True])
def test_every_notation_is_read(version: int, wide: bool) -> None:
    kinds = {1: b"hvc1", 2: b"hvc1", 3: b"grid"}
    assert told_sizes(file_of(kinds, {3: (1, 2)}, version, wide)) == Sizes(100, 50, 3 * 5000)
    with pytest.raises(UnreadHeif, match="grids are made of grids"):
        told_sizes(file_of({**kinds, 4: b"grid"}, {3: (1, 2), 4: (2, 3)}, version, wide))


@pytest.mark.parametrize("kind", [b"grid", b"iovl"])
def test_grids_of_grids_are_refused(kind: bytes) -> None:
    """Forty items, of which each is made of the two before it: a hundred million ways lead to the first."""
    kinds = {1: b"hvc1", 2: b"hvc1", **dict.fromkeys(range(3, 41), kind)}
    data = file_of(kinds, {item: (item - 1, item - 2) for item in range(3, 41)})
    with pytest.raises(InvalidImage, match="grids are made of grids"):
        decoded(data)


def test_a_tone_map_of_two_grids_is_none_of_them() -> None:
    kinds = {1: b"hvc1", 2: b"grid", 3: b"hvc1", 4: b"grid", 5: b"tmap"}
    assert told_sizes(file_of(kinds, {2: (1,), 4: (3,), 5: (2, 4)})).sum_px == 5 * 5000


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_boxes_cut_off_are_invalid(share: float) -> None:
    whole = file_of({1: b"hvc1"}, {})
    for data in (whole[: int(len(whole) * share)], box(b"ftyp", b"heic" + bytes(4))):
        with pytest.raises(InvalidImage):
            decoded(data)
