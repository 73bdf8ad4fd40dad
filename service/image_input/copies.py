"""Whether two pictures at the model's size are copies of one: compressed again, or resized.

Compressing and resizing change a picture a little in many places; another digit, or another emoji in a corner, changes
few places much. So blocks are compared, small ones in brightness and larger ones in colour, which JPEG keeps at half
the resolution, and the worst block decides: it may differ by no more than a little, or than what is usual all over
these two, up to a limit. In doubt it is another picture. The numbers were measured by benchmarks/picture_copies.py.
"""

from typing import NamedTuple

from PIL import Image, ImageChops


class Limits(NamedTuple):
    """Of a block's mean difference, of 255: of every block, and of any where the picture differs all over."""

    block_px: int
    always: int
    at_most: int


LUMA = Limits(block_px=2, always=3, at_most=8)
COLOUR = Limits(block_px=4, always=10, at_most=16)
_USUAL = 0.98  # of the blocks differ by no more than what is usual
_BEYOND_USUAL = 2.5


def is_copy(kept: bytes, sent: bytes, side_px: int) -> bool:
    """Of RGB bytes of two squares; those of other sizes are none."""
    if not len(kept) == len(sent) == side_px * side_px * 3:
        return False
    first, second = (Image.frombytes("RGB", (side_px, side_px), pixels) for pixels in (kept, sent))
    luma = ImageChops.difference(first.convert("L"), second.convert("L"))
    if not _is_noise(luma, LUMA):
        return False
    red, green, blue = ImageChops.difference(first, second).split()
    return _is_noise(ImageChops.lighter(ImageChops.lighter(red, green), blue), COLOUR)


def _is_noise(difference: Image.Image, limits: Limits) -> bool:
    blocks = difference.reduce(min(limits.block_px, difference.width))
    counts = blocks.histogram()
    worst = max(value for value, count in enumerate(counts) if count)
    if worst <= limits.always:
        return True
    usual, seen = 0, counts[0]
    while seen < _USUAL * blocks.width * blocks.height:
        usual += 1
        seen += counts[usual]
    return worst <= min(limits.at_most, _BEYOND_USUAL * usual)
