"""How large an AVIF's pictures are in its compressed data, which its headers need not say truly.

Its decoder believes the compressed data, up to 268 million pixels, and scales what it got to the size that the headers
tell: a file of 3 kB that claims 64 × 64 took 460 MB. So all items are found and their AV1 headers read, before any
decoder sees the file.
Covered: still pictures, grids, layers, alpha; every frame counts that a decoder would work on. `as_still` keeps the
decoder from what is not covered: sequences (`moov`), and EXIF, whose directory took 3 GB for 0.5 MB of tags that share
their value.
"""

from service.image_input.heif.av1 import frames
from service.image_input.heif.boxes import items, meta_boxes
from service.image_input.heif.sizes import Sizes


def as_still(data: bytes | bytearray) -> bytes:
    """The file as a still picture's, without EXIF: no decoder looks at a sequence beside it, or at a directory of tags.

    Its turn stands in boxes of its own, and EXIF's is not asked. Raises UnreadHeif.
    """
    view = memoryview(data)
    infos = [(start, end) for kind, start, end in meta_boxes(view) if kind == b"iinf"]
    still = bytearray(data)
    still[8:12] = b"avif"
    for start, end in infos:
        still[start:end] = still[start:end].replace(b"Exif", b"none")  # an item of a kind that nobody knows
    return bytes(still)


def coded_sizes(data: bytes | bytearray) -> Sizes:
    """Raises UnreadHeif; struct.error or IndexError where the file is cut off."""
    return Sizes.of(size_px for item in items(memoryview(data), b"av01") for size_px in frames(item))
