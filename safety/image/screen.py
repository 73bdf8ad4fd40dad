"""What an image screen is, and the pixels that it gets.

Covered here: the shape alone. Screens: `onnx.py`, bundled; `compvis.py`, the release's; `classifier.py` and
`onnx_classifier.py`, whichever is configured, whose scores are by labels of its own.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from PIL import Image


class Pixels(NamedTuple):
    """A decoded picture: uint8 RGB, row-major, height × width × 3."""

    data: bytes
    width_px: int
    height_px: int

    def image(self) -> Image.Image:
        return Image.frombytes("RGB", (self.width_px, self.height_px), self.data)


class ImageScreen(Protocol):
    """Judges pictures in batches, from one thread at a time.

    Attributes:
        name: under which the policy knows it.
        fingerprint: changes whenever its scores may: other weights, other preprocessing.
    """

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    def scores(self, pictures: Sequence[Image.Image]) -> list[dict[str, float]]:
        """For each RGB picture the score, 0 to 1, of every category that the screen judges."""
