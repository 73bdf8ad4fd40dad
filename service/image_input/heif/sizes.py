"""Sizes of all that a decoder would work on for one picture."""

from collections.abc import Iterable
from typing import NamedTuple, Self


class Sizes(NamedTuple):
    """Of the largest part, and of all parts together."""

    width_px: int
    height_px: int
    sum_px: int

    @classmethod
    def of(cls, parts_px: Iterable[tuple[int, int]]) -> Self:
        """Of parts of (width, height)."""
        width_px = height_px = sum_px = 0
        for part_width_px, part_height_px in parts_px:
            sum_px += part_width_px * part_height_px
            if part_width_px * part_height_px > width_px * height_px:
                width_px, height_px = part_width_px, part_height_px
        return cls(width_px, height_px, sum_px)
