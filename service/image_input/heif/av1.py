"""Frames of AV1: how large they are, by the headers in the compressed data.

Source: AV1 Bitstream and Decoding Process, 5.3 to 5.9.
"""

from collections.abc import Callable, Iterator

from service.image_input.heif.boxes import UnreadHeif

_SEQUENCE_HEADER, _FRAME_HEADER, _FRAME = 1, 3, 6
_SELECT = 2  # of a tool: each frame says it for itself
_KEY_FRAME, _SWITCH_FRAME = 0, 3


def frames(item: bytes) -> Iterator[tuple[int, int]]:
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
    raise UnreadHeif("an AVIF with broken data")


class _Bits:
    """As AV1 reads them, highest first; no header has more of them than fit here."""

    def __init__(self, data: bytes) -> None:
        self._bits = int.from_bytes(data[:256], "big")
        self._left = 8 * len(data[:256])

    def read(self, count: int) -> int:
        if count > self._left:
            raise UnreadHeif("cut off")
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
