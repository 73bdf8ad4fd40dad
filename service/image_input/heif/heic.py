"""How large a HEIC's items are by their headers, and whether a decoder would go through some of them again and again.

Its decoder holds each item to about the size that its headers tell. But it decodes every tile of a grid, also those
that the picture does not show: a thousand tiles of one picture's data keep it busy for minutes, and nothing can stop
it. Grids of grids could have each item decoded once for every way that leads to it.
Covered: the sum of all items' sizes, and grids and overlays of items that are made of others themselves.
Sources: ISO/IEC 23008-12 (ispe, ipma, grid, iovl), ISO/IEC 14496-12 (iinf, iref).
"""

import struct
from collections.abc import Iterator

from service.image_input.heif.boxes import Numbers, UnreadHeif, boxes, item_kinds, meta_boxes
from service.image_input.heif.sizes import Sizes

_MADE_OF_SEVERAL = (b"grid", b"iovl")


def told_sizes(data: bytes | bytearray) -> Sizes:
    """Raises UnreadHeif; struct.error where the file is cut off."""
    view = memoryview(data)
    inner = {kind: (start, end) for kind, start, end in meta_boxes(view)}
    if not {b"iinf", b"iprp"} <= set(inner):
        raise UnreadHeif("a file without a still picture")
    if b"iref" in inner:
        _refuse_nesting(view, inner[b"iinf"], inner[b"iref"])
    return Sizes.of(_sizes(view, *inner[b"iprp"]))


def _sizes(view: memoryview, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Each item's, from the item properties box."""
    inner = {kind: (at, until) for kind, at, until in boxes(view, start, end)}
    properties = [
        struct.unpack_from(">II", view, at + 4) if kind == b"ispe" else None
        for kind, at, until in boxes(view, *inner.get(b"ipco", (end, end)))
    ]
    for kind, at, until in boxes(view, start, end):
        if kind != b"ipma":
            continue
        box = Numbers(view, at, until)
        version, flags = box.number(1), box.number(3)
        for _ in range(box.number(4)):
            box.number(2 if version < 1 else 4)
            for _ in range(box.number(1)):
                index = box.number(2) & 0x7FFF if flags & 1 else box.number(1) & 0x7F
                size_px = properties[index - 1] if 0 < index <= len(properties) else None
                if size_px is not None:
                    yield size_px[0], size_px[1]


def _refuse_nesting(view: memoryview, infos: tuple[int, int], references: tuple[int, int]) -> None:
    """Raises UnreadHeif for a grid or an overlay of what is made of others itself."""
    made_of = dict(_parts(view, *references))
    for item, kind in item_kinds(view, *infos):
        if kind in _MADE_OF_SEVERAL and not made_of.keys().isdisjoint(made_of.get(item, ())):
            raise UnreadHeif("a file whose grids are made of grids")


def _parts(view: memoryview, start: int, end: int) -> Iterator[tuple[int, frozenset[int]]]:
    """An item, and those that it is made of, from the item reference box."""
    number_bytes = 2 if view[start] == 0 else 4
    for kind, at, until in boxes(view, start + 4, end):
        if kind == b"dimg":
            box = Numbers(view, at, until)
            item = box.number(number_bytes)
            yield item, frozenset(box.number(number_bytes) for _ in range(box.number(2)))
