"""Codings undone: whole, in pieces, in a row, broken, and bombs as far as they are read."""

import gzip
import random
import sys
import tracemalloc
import zlib
from collections.abc import Callable

import pytest

from service.core.content_codings import CODINGS, PIECE_BYTES, CodingError, Decoder, coding_of

TEXT = b"".join(b"%d " % i for i in range(200_000))


def bare(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACKERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "bare deflate": ("deflate", bare),
}
if sys.version_info >= (3, 14):
    from compression import zstd

    PACKERS["zstd"] = ("zstd", zstd.compress)


def decoded(coding: str, data: bytes, step: int = 1 << 30) -> bytes:
    decoder = Decoder(coding)
    pieces = [piece for i in range(0, len(data), step) for piece in decoder.feed(data[i : i + step])]
    assert all(0 < len(piece) <= PIECE_BYTES for piece in pieces)
    decoder.finish()
    return b"".join(pieces)


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("step", [1, 1000, 1 << 30])
@pytest.mark.parametrize("text", [b"", b"x", TEXT, b"\0" * PIECE_BYTES, b"\0" * (3 * PIECE_BYTES)], ids=len)
def test_what_was_packed_comes_back(packer: str, step: int, text: bytes) -> None:
    coding, pack = PACKERS[packer]
    packed = pack(text if step > 1 else text[:5000])
    assert decoded(coding, packed, step) == (text if step > 1 else text[:5000])


@pytest.mark.slow
@pytest.mark.parametrize("packer", PACKERS)
def test_what_is_broken_is_told(packer: str) -> None:
    coding, pack = PACKERS[packer]
    packed = pack(TEXT)
    for cut in (1, len(packed) // 2, len(packed) - 1):
        with pytest.raises(CodingError, match=f"ends before its {coding} does"):
            decoded(coding, packed[:cut])
    with pytest.raises(CodingError, match="ends before"):
        decoded(coding, b"")
    with pytest.raises(CodingError):
        decoded(coding, packed + b"and more")
    with pytest.raises(CodingError, match=f"is not readable as {coding}: "):
        decoded(coding, b'{"question": "q"}')
    noise = random.Random(1)
    for _ in range(200):
        wrong = bytearray(packed)
        wrong[noise.randrange(len(wrong))] ^= 1 << noise.randrange(8)
        try:
            decoded(coding, bytes(wrong))
        except CodingError:
            pass


def test_members_of_gzip_follow_one_another() -> None:
    assert decoded("gzip", gzip.compress(b"one ") + gzip.compress(b"") + gzip.compress(b"two"), 7) == b"one two"


def test_members_are_counted() -> None:
    member = gzip.compress(b"x")
    assert decoded("gzip", member * 1024) == b"x" * 1024
    with pytest.raises(CodingError, match="more than 1024 members of gzip"):
        decoded("gzip", member * 1025)


@pytest.mark.slow
@pytest.mark.parametrize("packer", PACKERS)
def test_a_bomb_goes_no_further_than_its_reader(packer: str) -> None:
    coding, pack = PACKERS[packer]
    bomb = pack(bytes(64 << 20))
    tracemalloc.start()
    pieces = Decoder(coding).feed(bomb)
    assert sum(len(next(pieces)) for _ in range(8)) == 8 * PIECE_BYTES
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 4 << 20


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        ("", ""),
        ("identity", ""),
        ("GZIP", "gzip"),
        ("x-gzip , identity", "gzip"),
        ("br", "br"),
        ("gzip, gzip", "gzip, gzip"),
    ],
)
def test_a_header_names_a_coding(header: str, coding: str) -> None:
    assert coding_of(header) == coding


def test_zstd_is_read_where_python_reads_it() -> None:
    assert ("zstd" in CODINGS) == (sys.version_info >= (3, 14))
