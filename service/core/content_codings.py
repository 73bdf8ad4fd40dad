"""Content codings of HTTP (RFC 9110 §8.4.1), undone piece by piece: a bomb goes no further than its reader does."""

import sys
import zlib
from collections.abc import Callable, Generator, Iterator
from typing import Any

PIECE_BYTES = 256 * 1024
_MAX_MEMBERS = 1024  # each costs more than its bytes: a million empty ones are 20 MB, and 10 s of work
_ALIASES = {"x-gzip": "gzip"}
_GZIP_BITS, _ZLIB_BITS, _RAW_BITS = 31, 15, -15


class CodingError(Exception):
    """What was read is not of its coding; the message says how."""


class _Zlib:
    """One stream of zlib's: a gzip member, or deflate."""

    def __init__(self, window_bits: int) -> None:
        self._stream = zlib.decompressobj(window_bits)

    def decoded(self, data: bytes) -> Generator[bytes, None, bytes | None]:
        """Pieces; returns what stands behind the stream's end, None before it."""
        while True:
            piece = self._stream.decompress(data, PIECE_BYTES)
            data = self._stream.unconsumed_tail
            if piece:
                yield piece
            if self._stream.eof:
                return self._stream.unused_data
            if not data and len(piece) < PIECE_BYTES:
                return None


def _gzip(_: bytes) -> _Zlib:
    return _Zlib(_GZIP_BITS)


def _deflate(begin: bytes) -> _Zlib:
    """In zlib's frame, as it should be, or bare, as some send it."""
    is_framed = begin[0] & 0x0F == 8 and int.from_bytes(begin[:2], "big") % 31 == 0
    return _Zlib(_ZLIB_BITS if is_framed else _RAW_BITS)


_OPENERS: dict[str, Callable[[bytes], Any]] = {"gzip": _gzip, "deflate": _deflate}

if sys.version_info >= (3, 14):
    from compression import zstd

    class _Zstd:
        """One frame of zstd's."""

        def __init__(self, _: bytes) -> None:
            options = {zstd.DecompressionParameter.window_log_max: 23}  # 8 MiB, as RFC 9659 has it
            self._stream = zstd.ZstdDecompressor(options=options)

        def decoded(self, data: bytes) -> Generator[bytes, None, bytes | None]:
            while True:
                piece = self._stream.decompress(data, PIECE_BYTES)
                data = b""
                if piece:
                    yield piece
                if self._stream.eof:
                    return self._stream.unused_data
                if self._stream.needs_input:
                    return None

    _OPENERS["zstd"] = _Zstd

CODINGS = tuple(_OPENERS)


def coding_of(header: str) -> str:
    """The coding that a Content-Encoding names, of CODINGS or not; empty for none. Several are named as they stand."""
    named = [part.strip().lower() for part in header.split(",")]
    return ", ".join(_ALIASES.get(part, part) for part in named if part not in ("", "identity"))


class Decoder:
    """Undoes one of CODINGS; members of gzip and frames of zstd may follow one another."""

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._stream: Any = None
        self._begin = b""  # of a stream of which too little is there to open it
        self._num_ended = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What `data` brings, in pieces of at most PIECE_BYTES. Raises CodingError."""
        while data:
            if self._stream is None:
                if self._num_ended and self._coding == "deflate":
                    raise CodingError("goes on behind the end of its deflate")
                data, self._begin = self._begin + data, b""
                if len(data) < 2:
                    self._begin = data
                    return
                self._stream = _OPENERS[self._coding](data)
            try:
                rest = yield from self._stream.decoded(data)
            except Exception as error:  # zlib's and zstd's own, which have no class of ours in common
                why = str(error).rpartition(": ")[2]  # without the codec's number and function
                raise CodingError(f"is not readable as {self._coding}: {why}") from None
            if rest is None:
                return
            data, self._stream = rest, None
            self._num_ended += 1
            if self._num_ended == _MAX_MEMBERS and data:
                raise CodingError(f"has more than {_MAX_MEMBERS} members of {self._coding}")

    def finish(self) -> None:
        """Raises CodingError where the end is missing."""
        if self._stream is not None or self._begin or not self._num_ended:
            raise CodingError(f"ends before its {self._coding} does")
