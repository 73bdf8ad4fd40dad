"""The pictures that came last, decoded: a client that keeps no conversation here sends its picture with every question.

They are told by what was sent, in whichever form, and not by whom: as with the screens' verdicts, only someone who has
the picture's very bytes could tell that it came before.
"""

import hashlib
from collections import OrderedDict
from typing import NamedTuple


class InputPixels(NamedTuple):
    """RGB uint8, row-major, `side_px` × `side_px` × 3 bytes, and their digest."""

    rgb: bytes
    side_px: int
    sha256: str


class SentPicture(NamedTuple):
    """What decides the pixels."""

    sha256: bytes  # of what was sent
    side_px: int
    drops_alpha: bool


class RecentPixels:
    """Those that were not asked for longest are dropped once all take more than `limit_bytes`."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._size_bytes = 0
        self._pixels: OrderedDict[SentPicture, InputPixels] = OrderedDict()

    def get(self, picture: SentPicture) -> InputPixels | None:
        found = self._pixels.get(picture)
        if found is not None:
            self._pixels.move_to_end(picture)
        return found

    def put(self, picture: SentPicture, pixels: InputPixels) -> None:
        if picture in self._pixels:
            return
        self._pixels[picture] = pixels
        self._size_bytes += len(pixels.rgb)
        while self._size_bytes > self._limit_bytes:
            _, dropped = self._pixels.popitem(last=False)
            self._size_bytes -= len(dropped.rgb)


def sha256_of(source: str | bytes) -> bytes:
    """Of a picture as it was sent."""
    return hashlib.sha256(source.encode(errors="surrogatepass") if isinstance(source, str) else source).digest()
