"""AV1 and the container around it, written bit for bit."""

import struct


def packed(bits: str) -> bytes:
    padded = bits.replace(" ", "")
    padded += "0" * (-len(padded) % 8)
    return int(padded, 2).to_bytes(len(padded) // 8, "big") + bytes(4)


def dimensions(width_px: int, height_px: int) -> str:
    return f"{15:04b}{15:04b}{width_px - 1:016b}{height_px - 1:016b}"


def reduced_header(width_px: int, height_px: int) -> bytes:
    return packed(f"000 1 1 00000 {dimensions(width_px, height_px)}")


def full_header(timing: str = "0", ids: str = "0") -> bytes:
    """Two operating points, the first of a high level; screen tools and vectors as each frame has them."""
    model = "1" if len(timing) > 66 else "0"
    points = "000000000000 11111 1" + (f"1 {'0' * 9}" if model == "1" else "") + "1 0000"
    points += "000000000000 00000" + ("0" if model == "1" else "") + "0"
    return packed(f"000 0 0 {timing} 1 00001 {points} {dimensions(80, 60)} {ids} 000 0000 1 00 1 1 {'0' * 40}")


def timing(has_equal_intervals: bool) -> str:
    """With a decoder model: delays of four bits, times of nine."""
    return f"1 {'0' * 64} {'1 001 01' if has_equal_intervals else '0'} 1 00011 {'0' * 37} 01000"


def unit(kind: int, data: bytes) -> bytes:
    return bytes([kind << 3 | 2]) + leb128(len(data)) + data


def leb128(number: int) -> bytes:
    return bytes([number & 0x7F | 0x80, number >> 7])


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", len(content) + 8, kind) + content


def avif(*items: bytes) -> bytes:
    """Items in an `idat`, of a file that has no more than this room looks at."""
    places, offset = b"", 0
    for number, item in enumerate(items):
        places += struct.pack(">HHHHII", number + 1, 1, 0, 1, offset, len(item))
        offset += len(item)
    location = box(b"iloc", struct.pack(">IBBH", 1 << 24, 0x44, 0, len(items)) + places)
    return box(b"ftyp", b"avif" + bytes(4)) + box(b"meta", bytes(4) + location + box(b"idat", b"".join(items)))


def located(version: int, sizes: int, *fields: bytes) -> bytes:
    location = box(b"iloc", bytes([version, 0, 0, 0, sizes >> 8, sizes & 255]) + b"".join(fields))
    return box(b"ftyp", b"avif" + bytes(4)) + box(b"meta", bytes(4) + location)
