"""The container of AVIF and HEIC taken apart: boxes, and what lies at the places that its items name.

Source: ISO/IEC 14496-12 (boxes; meta, iinf, iloc).
"""

import struct
from collections.abc import Iterator

_MAX_ITEMS = 4096  # a grid has 256 × 256 tiles at most, and cameras write some dozens


class UnreadHeif(Exception):
    """Why a file is not read, as the end of `it is …`."""


def boxes(view: memoryview, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, and where the content begins and ends."""
    while start + 8 <= end:
        length, kind = struct.unpack_from(">I4s", view, start)
        head_bytes = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", view, start + 8)
            head_bytes = 16
        box_end = end if length == 0 else start + length
        if length and length < head_bytes or box_end > end:
            raise UnreadHeif("cut off")
        yield kind, start + head_bytes, box_end
        start = box_end


def meta_boxes(view: memoryview) -> Iterator[tuple[bytes, int, int]]:
    meta = next(((start, end) for kind, start, end in boxes(view, 0, len(view)) if kind == b"meta"), None)
    if meta is None:
        raise UnreadHeif("a file without a still picture")
    yield from boxes(view, meta[0] + 4, meta[1])


def item_kinds(view: memoryview, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Each item's number and kind, from the item information box."""
    box = Numbers(view, start, end)
    version = box.number(1)
    entries_start = start + (6 if version == 0 else 8)
    for kind, at, until in boxes(view, entries_start, end):
        if kind != b"infe":
            continue
        entry = Numbers(view, at, until)
        version = entry.number(1)
        entry.number(3)
        if version < 2:
            continue
        number = entry.number(2 if version == 2 else 4)
        entry.number(2)
        yield number, entry.number(4).to_bytes(4, "big")


def items(view: memoryview, kind: bytes) -> Iterator[bytes]:
    """What lies at each place of the item location box, but for items that are told to be of other kinds."""
    inner = {kind: (start, end) for kind, start, end in meta_boxes(view)}
    if b"iloc" not in inner:
        raise UnreadHeif("a file without a still picture")
    told = set(item_kinds(view, *inner[b"iinf"])) if b"iinf" in inner else set()
    others = {item for item, _ in told} - {item for item, is_kind in told if is_kind == kind}
    own_start, own_end = inner.get(b"idat", (0, 0))
    left_bytes = 2 * len(view)  # the same bytes again and again are no picture
    for item, is_own, extents in _locations(Numbers(view, *inner[b"iloc"])):
        if item in others:
            continue
        source = view[own_start:own_end] if is_own else view
        parts = [source[offset : offset + length if length else len(source)] for offset, length in extents]
        left_bytes -= sum(map(len, parts))
        if left_bytes < 0:
            raise UnreadHeif("a file of overlapping items")
        yield b"".join(parts)


def _locations(box: "Numbers") -> Iterator[tuple[int, bool, list[tuple[int, int]]]]:
    """Of each item: its number, whether it lies inside of the meta box, and its (offset, length)."""
    version = box.number(1)
    box.number(3)
    sizes, more_sizes = box.number(1), box.number(1)
    offset_bytes, length_bytes, base_bytes = sizes >> 4, sizes & 15, more_sizes >> 4
    index_bytes = more_sizes & 15 if version in (1, 2) else 0
    count = box.number(2 if version < 2 else 4)
    if count > _MAX_ITEMS:
        raise UnreadHeif(f"a file of {count} items, at most {_MAX_ITEMS} are allowed")
    for _ in range(count):
        item = box.number(2 if version < 2 else 4)
        method = box.number(2) & 15 if version in (1, 2) else 0
        box.number(2)
        base = box.number(base_bytes)
        extents = []
        for _ in range(box.number(2)):
            box.number(index_bytes)
            offset, length = box.number(offset_bytes), box.number(length_bytes)
            extents.append((base + offset, length))
        if method > 1:
            raise UnreadHeif("a file whose items are made of others")
        yield item, method == 1, extents


class Numbers:
    """Numbers read one after the other."""

    def __init__(self, view: memoryview, start: int, end: int) -> None:
        self._view = view
        self._position = start
        self._end = end

    def number(self, size_bytes: int) -> int:
        end = self._position + size_bytes
        if end > self._end:
            raise UnreadHeif("cut off")
        value = int.from_bytes(self._view[self._position : end], "big")
        self._position = end
        return value
