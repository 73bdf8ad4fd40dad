"""Frames of AV1: their sizes by every way through the headers before them."""

import pytest

from service.image_input.heif.avif import coded_sizes
from tests.service.image_input.heif.files import avif, full_header, packed, timing, unit

OWN, SAME = (1 << 16) ** 2, 80 * 60
FRAMES = {  # header, frame header, pixels
    "a key frame of the sequence's size": (full_header(), "0 00 1 0 0 0", SAME),
    "a key frame of its own size": (full_header(), "0 00 1 0 0 1", OWN),
    "with screen tools": (full_header(), "0 00 1 0 1 0 1", OWN),
    "with screen tools and vectors, of the same size": (full_header(), "0 00 1 0 1 1 0", SAME),
    "not shown": (full_header(), "0 00 0 0 0 0 0 1", OWN),
    "not shown, of the same size": (full_header(), "0 00 0 1 1 1 0 0", SAME),
    "an inner frame": (full_header(), "0 10 1 0 0 0 1", OWN),
    "a switch": (full_header(), "0 11 1 0 0 0", OWN),
    "one that is shown again": (full_header(), "1 11 1 1 1 1 1", SAME),
    "with ids": (full_header(ids="1 0001 001"), f"0 00 1 0 0 {'1' * 5} 0", SAME),
    "with ids, of its own size": (full_header(ids="1 0001 001"), f"0 00 1 0 0 {'0' * 5} 1", OWN),
    "at a time": (full_header(timing(False)), f"0 00 1 {'1' * 9} 0 0 0", SAME),
    "at a time, of its own size": (full_header(timing(False)), f"0 00 1 {'0' * 9} 0 0 1", OWN),
    "at equal times": (full_header(timing(True)), "0 00 1 0 0 1", OWN),
}


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_that_brings_its_own_size_counts_as_the_largest(name: str) -> None:
    header, frame, wanted_px = FRAMES[name]
    assert coded_sizes(avif(unit(1, header) + unit(3, packed(frame)))).sum_px == wanted_px
