"""EXIF orientation: what cameras write, and what they never would."""

import struct

import pytest

from service.image_input.exif import orientation


def block(order: str = ">", tag: int = 0x0112, kind: int = 3, value: int = 6, start: int = 8, count: int = 1) -> bytes:
    mark = b"MM\0*" if order == ">" else b"II*\0"
    entries = struct.pack(f"{order}HHIHH", tag, kind, 1, value, 0)
    return mark + struct.pack(f"{order}I", start) + b"\0" * (start - 8) + struct.pack(f"{order}H", count) + entries


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("mark", [b"", b"Exif\0\0"])
def test_both_byte_orders(order: str, mark: bytes) -> None:
    for value in range(1, 9):
        assert orientation(mark + block(order, value=value)) == value
    assert orientation(memoryview(mark + block(order, start=100, value=3))) == 3


@pytest.mark.parametrize(
    "data",
    [
        b"", b"Exif\0\0", b"II*\0", b"MM\0*\0\0", b"XX*\0" + block()[4:], block()[:-3], block(value=0), block(value=9),
        block(kind=4), block(tag=0x0111), b"MM\0*\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff" + b"\0" * 30,
        b"\0" * 1000,
    ],
)  # fmt: skip
def test_what_says_nothing_turns_nothing(data: bytes) -> None:
    assert orientation(data) == 1


def test_a_directory_that_claims_more_entries_than_it_has() -> None:
    assert orientation(block(count=65_535)) == 6
