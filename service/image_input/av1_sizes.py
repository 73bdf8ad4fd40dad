"""How large an AVIF's pictures are in its compressed data, which its headers need not say truly.

Its decoder believes the compressed data, up to 268 million pixels, and scales what it got to the size that the headers
tell: a file of 3 kB that claims 64 × 64 took 460 MB. So all items are found and their AV1 headers read, before any
decoder sees the file.
Covered: still pictures, grids, layers, alpha; every frame counts that a decoder would work on. `as_still` keeps the
decoder from what is not covered: sequences (`moov`), and EXIF, whose directory took 3 GB for 0.5 MB of tags that share
their value.
Sources: ISO/IEC 14496-12 (boxes, iloc), AV1 Bitstream and Decoding Process 5.3 to 5.9, AV1 Image File Format.
"""

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

_MAX_ITEMS = 4096  # a grid has 256 × 256 tiles at most, and cameras write some dozens
_SEQUENCE_HEADER, _FRAME_HEADER, _FRAME = 1, 3, 6
_SELECT = 2  # of a tool: each frame says it for itself
_KEY_FRAME, _SWITCH_FRAME = 0, 3


class CodedSizes(NamedTuple):
    """Of the largest frame, and of all frames together."""

    width_px: int
    height_px: int
    sum_px: int


class UnreadAvif(Exception):
    """Why an AVIF is not read, as the end of `it is …`."""


def as_still(data: bytes | bytearray) -> bytes:
    """The file as a still picture's, without EXIF: no decoder looks at a sequence beside it, or at a directory of tags.

    Its turn stands in boxes of its own, and EXIF's is not asked. Raises UnreadAvif.
    """
    view = memoryview(data)
    infos = [(start, end) for kind, start, end in _meta_boxes(view) if kind == b"iinf"]
    still = bytearray(data)
    still[8:12] = b"avif"
    for start, end in infos:
        still[start:end] = still[start:end].replace(b"Exif", b"none")  # an item of a kind that nobody knows
    return bytes(still)


def coded_sizes(data: bytes | bytearray) -> CodedSizes:
    """Raises UnreadAvif; struct.error or IndexError where the file is cut off."""
    width_px = height_px = sum_px = 0
    for item in _items(memoryview(data)):
        for frame_width_px, frame_height_px in _frames(item):
            sum_px += frame_width_px * frame_height_px
            if frame_width_px * frame_height_px > width_px * height_px:
                width_px, height_px = frame_width_px, frame_height_px
    return CodedSizes(width_px, height_px, sum_px)


# Boxes --------------------------------------------------------------------------------------------------------------


def _boxes(view: memoryview, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, and where the content begins and ends."""
    while start + 8 <= end:
        length, kind = struct.unpack_from(">I4s", view, start)
        head_bytes = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", view, start + 8)
            head_bytes = 16
        box_end = end if length == 0 else start + length
        if length and length < head_bytes or box_end > end:
            raise UnreadAvif("cut off")
        yield kind, start + head_bytes, box_end
        start = box_end


def _meta_boxes(view: memoryview) -> Iterator[tuple[bytes, int, int]]:
    meta = next(((start, end) for kind, start, end in _boxes(view, 0, len(view)) if kind == b"meta"), None)
    if meta is None:
        raise UnreadAvif("an AVIF without a still picture")
    yield from _boxes(view, meta[0] + 4, meta[1])


def _items(view: memoryview) -> Iterator[bytes]:
    """What lies at each place of the item location box."""
    inner = {kind: (start, end) for kind, start, end in _meta_boxes(view)}
    if b"iloc" not in inner:
        raise UnreadAvif("an AVIF without a still picture")
    own_start, own_end = inner.get(b"idat", (0, 0))
    left_bytes = 2 * len(view)  # the same bytes again and again are no picture
    for is_own, extents in _locations(_Bytes(view, *inner[b"iloc"])):
        source = view[own_start:own_end] if is_own else view
        parts = [source[offset : offset + length if length else len(source)] for offset, length in extents]
        left_bytes -= sum(map(len, parts))
        if left_bytes < 0:
            raise UnreadAvif("an AVIF of overlapping items")
        yield b"".join(parts)


def _locations(box: "_Bytes") -> Iterator[tuple[bool, list[tuple[int, int]]]]:
    """Of each item: whether it lies inside of the meta box, and its (offset, length)."""
    version = box.number(1)
    box.number(3)
    sizes, more_sizes = box.number(1), box.number(1)
    offset_bytes, length_bytes, base_bytes = sizes >> 4, sizes & 15, more_sizes >> 4
    index_bytes = more_sizes & 15 if version in (1, 2) else 0
    count = box.number(2 if version < 2 else 4)
    if count > _MAX_ITEMS:
        raise UnreadAvif(f"an AVIF of {count} items, at most {_MAX_ITEMS} are allowed")
    for _ in range(count):
        box.number(2 if version < 2 else 4)
        method = box.number(2) & 15 if version in (1, 2) else 0
        box.number(2)
        base = box.number(base_bytes)
        extents = []
        for _ in range(box.number(2)):
            box.number(index_bytes)
            offset, length = box.number(offset_bytes), box.number(length_bytes)
            extents.append((base + offset, length))
        if method > 1:
            raise UnreadAvif("an AVIF whose items are made of others")
        yield method == 1, extents


class _Bytes:
    """Numbers read one after the other."""

    def __init__(self, view: memoryview, start: int, end: int) -> None:
        self._view = view
        self._position = start
        self._end = end

    def number(self, size_bytes: int) -> int:
        end = self._position + size_bytes
        if end > self._end:
            raise UnreadAvif("cut off")
        value = int.from_bytes(self._view[self._position : end], "big")
        self._position = end
        return value


# AV1 ----------------------------------------------------------------------------------------------------------------


def _frames(item: bytes) -> Iterator[tuple[int, int]]:
    """Width and height of each frame in an item; none where it holds something else, such as EXIF."""
    sequence: _Sequence | None = None
    position = 0
    while position < len(item):
        head = item[position]
        position += 2 if head & 4 else 1
        length, position = _leb128(item, position) if head & 2 else (len(item) - position, position)
        unit = item[position : position + length]
        kind = head >> 3 & 15
        if kind == _SEQUENCE_HEADER:
            sequence = _Sequence(_Bits(unit))
        elif kind in (_FRAME_HEADER, _FRAME) and sequence is not None:
            yield sequence.size_of(_Bits(unit))
        position += length


def _leb128(data: bytes, position: int) -> tuple[int, int]:
    """The number, and where it ends."""
    value = 0
    for i in range(8):
        value |= (data[position + i] & 0x7F) << 7 * i
        if not data[position + i] & 0x80:
            return value, position + i + 1
    raise UnreadAvif("an AVIF with broken data")


class _Bits:
    """As AV1 reads them, highest first; no header has more of them than fit here."""

    def __init__(self, data: bytes) -> None:
        self._bits = int.from_bytes(data[:256], "big")
        self._left = 8 * len(data[:256])

    def read(self, count: int) -> int:
        if count > self._left:
            raise UnreadAvif("cut off")
        self._left -= count
        return self._bits >> self._left & (1 << count) - 1

    def skip_uvlc(self) -> None:
        zeros = 0
        while not self.read(1):
            zeros += 1
        if zeros < 32:
            self.read(zeros)


class _Sequence:
    """What a sequence header says that bears on the size of its frames (5.5)."""

    def __init__(self, bits: _Bits) -> None:
        read = bits.read
        read(3 + 1)
        self.is_reduced = bool(read(1))
        self.has_model = self.has_equal_intervals = False
        self.time_bits = 0
        if self.is_reduced:
            read(5)
        else:
            self._read_operation(bits)
        self.width_bits, self.height_bits = read(4) + 1, read(4) + 1
        self.width_px, self.height_px = read(self.width_bits) + 1, read(self.height_bits) + 1
        if self.is_reduced:
            return
        self.id_bits = read(4) + 2 + read(3) + 1 if read(1) else 0
        read(3 + 4)  # superblocks, intra; inter tools
        if read(1):
            read(2)
        self.screen_tools = _SELECT if read(1) else read(1)
        self.integer_vectors = _SELECT
        if self.screen_tools and not read(1):
            self.integer_vectors = read(1)

    def _read_operation(self, bits: _Bits) -> None:
        read = bits.read
        delay_bits = 0
        if read(1):  # timing
            read(64)
            self.has_equal_intervals = bool(read(1))
            if self.has_equal_intervals:
                bits.skip_uvlc()
            self.has_model = bool(read(1))
            if self.has_model:
                delay_bits = read(5) + 1
                read(32 + 5)
                self.time_bits = read(5) + 1
        has_display_delay = read(1)
        for _ in range(read(5) + 1):
            read(12)
            if read(5) > 7:
                read(1)
            if self.has_model and read(1):
                read(2 * delay_bits + 1)
            if has_display_delay and read(1):
                read(4)

    def size_of(self, bits: _Bits) -> tuple[int, int]:
        """Of a frame (5.9.2): the sequence's, or the largest that it may have where it brings its own."""
        if self.is_reduced or not self._has_own_size(bits.read):
            return self.width_px, self.height_px
        return 1 << self.width_bits, 1 << self.height_bits

    def _has_own_size(self, read: Callable[[int], int]) -> bool:
        if read(1):  # shows one that was there before
            return False
        kind, is_shown = read(2), read(1)
        if is_shown and self.has_model and not self.has_equal_intervals:
            read(self.time_bits)
        if not is_shown:
            read(1)
        if kind != _SWITCH_FRAME and not (kind == _KEY_FRAME and is_shown):
            read(1)
        read(1)
        has_screen_tools = read(1) if self.screen_tools == _SELECT else self.screen_tools
        if has_screen_tools and self.integer_vectors == _SELECT:
            read(1)
        read(self.id_bits)
        return kind == _SWITCH_FRAME or bool(read(1))
