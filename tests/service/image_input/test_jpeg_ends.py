"""What the headers of a JPEG's scans promise, and continuations that no decoder reads alike."""

import pytest
from PIL import Image

from service.image_input.jpeg_ends import CONTINUATIONS, brings_all, digest
from tests.attacks.files import photo, saved


def parts(data: bytes) -> tuple[memoryview, memoryview]:
    """Scans and frame header."""
    frame = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
    return memoryview(data)[data.index(b"\xff\xda") :], memoryview(data)[frame:]


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_whole_files_bring_every_coefficient(mode: str) -> None:
    for options in ({}, {"progressive": True}):
        assert brings_all(*parts(saved(photo().convert(mode), "JPEG", **options)))


def test_each_scan_of_a_progressive_file_but_repeated_ones_is_needed() -> None:
    data = saved(photo(), "JPEG", progressive=True)
    for _ in range(data.count(b"\xff\xda") - 1):
        data = data[: data.rindex(b"\xff\xda")]
        assert not brings_all(*parts(data))


def test_continuations_differ_in_their_first_bits() -> None:
    assert {one[0] >> 6 for one in CONTINUATIONS} == {0, 1, 2, 3}
    assert all(0xFF not in one and len(one) > 60 for one in CONTINUATIONS)


def test_the_digest_is_of_all_rows() -> None:
    picture = Image.new("RGB", (3, 700))
    other = picture.copy()
    other.putpixel((2, 699), (0, 0, 1))
    assert digest(picture) == digest(picture.copy()) != digest(other)
