"""The one field of EXIF metadata that a picture's pixels depend on. Nothing else of it is read or kept."""

import struct

_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_ORIENTATION, _SHORT = 0x0112, 3
_ENTRY_BYTES = 12


def orientation(block: bytes | bytearray | memoryview) -> int:
    """Orientation 1 to 8 of an EXIF block; 1 where it says nothing readable, which does not break the picture.

    Args:
        block: TIFF structure, with or without the `Exif` mark in front of it.
    """
    tiff = bytes(block[:65536])  # what a JPEG segment can hold; the first directory stands in front
    tiff = tiff.removeprefix(b"Exif\0\0")
    order = _ORDERS.get(tiff[:4])
    if order is None or len(tiff) < 8:
        return 1
    (start,) = struct.unpack_from(f"{order}I", tiff, 4)
    if start + 2 > len(tiff):
        return 1
    (count,) = struct.unpack_from(f"{order}H", tiff, start)
    entries = tiff[start + 2 : start + 2 + count * _ENTRY_BYTES]
    whole = len(entries) // _ENTRY_BYTES * _ENTRY_BYTES
    for tag, kind, _, value, _ in struct.iter_unpack(f"{order}HHIHH", entries[:whole]):
        if tag == _ORIENTATION:
            return value if kind == _SHORT and 1 <= value <= 8 else 1
    return 1
