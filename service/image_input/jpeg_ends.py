"""JPEG files without their end marker: whether every pixel is there all the same.

A decoder that meets the end of its data goes on with zeros and says nothing of it. So such a file is decoded with
different continuations: what does not depend on them was in the file. That the scans bring every coefficient to its
last bit is read from their headers, as a file may also end between two of them.
Source: ITU T.81, B.2.3 and G.1.
"""

import hashlib
import struct

from PIL import Image

END = b"\xff\xd9"
_START_OF_SCAN = b"\xff\xda"
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_COEFFICIENTS = 64
_ROWS_AT_ONCE = 256

# Their first bits differ, and then they are as good as random: two alone often come upon the same symbol, or upon none,
# which counts as a zero. A 0xFF would be a marker
CONTINUATIONS = tuple(
    bytes([start]) + hashlib.sha512(bytes([start])).digest().replace(b"\xff", b"")
    for start in (0b00010010, 0b01011011, 0b10010100, 0b11100011)
)


def brings_all(scans: memoryview, frame_header: memoryview) -> bool:
    """Whether the scans, by their headers, hold all coefficients of all components.

    Args:
        frame_header: the segment from its marker on.
    """
    components = bytes(frame_header[10 : 10 + 3 * frame_header[9] : 3])
    is_progressive = frame_header[1] in _PROGRESSIVE
    missing = {component: set(range(_COEFFICIENTS)) for component in components}
    data, position = bytes(scans), 0
    while (position := data.find(_START_OF_SCAN, position)) >= 0:
        count = data[position + 4]
        first, last, bits = struct.unpack_from("BBB", data, position + 5 + 2 * count)
        if not is_progressive:
            first, last, bits = 0, _COEFFICIENTS - 1, 0
        if bits & 0x0F == 0:  # down to the last bit
            for component in data[position + 5 : position + 5 + 2 * count : 2]:
                missing.get(component, set()).difference_update(range(first, last + 1))
        position += len(_START_OF_SCAN)
    return not any(missing.values())


def digest(picture: Image.Image) -> bytes:
    """Of all pixels of a loaded picture, some rows at a time."""
    found = hashlib.sha256()
    for top_px in range(0, picture.height, _ROWS_AT_ONCE):
        bottom_px = min(picture.height, top_px + _ROWS_AT_ONCE)
        found.update(picture.crop((0, top_px, picture.width, bottom_px)).tobytes())
    return found.digest()
