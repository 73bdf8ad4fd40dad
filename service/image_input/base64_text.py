"""A picture as text: base64 or a base64 data URL → bytes.

Taken: either alphabet of RFC 4648 (§4 and §5), line ends in it, blanks around it, padding or none. A data URL's head
may have 8 KiB, of which only `;base64` counts: the type is told by the content. All else is refused by its first bad
character and its place, or by what the text looks like.
"""

import binascii
import re
import unicodedata

from service.core.errors import InvalidBase64, InvalidImage

MAX_HEAD_CHARS = 8192  # of a data URL, up to its comma
_PIECE_CHARS = 1 << 20  # between pieces the interpreter can run other threads
_PATH_CHARS = 1024  # at most, of a text that may be a file path

_BLANKS = " \t\r\n\f"
_LINE_ENDS = b"\r\n"
_STANDARD = bytes.maketrans(b"-_", b"+/")
_WRONG = re.compile(r"[^A-Za-z0-9+/\-_\r\n]")
_FILE_NAME = r"[^\x00-\x1f<>\"|?*]"
_SHOWN_CHARS = 24
_LOOKS = tuple(
    (re.compile(pattern, re.IGNORECASE), what)
    for pattern, what in (
        (r"\ufeff", "it begins with a byte order mark (U+FEFF)"),
        (r"b['\"]", "it is Python's notation of bytes (b'…'): send what is between the quotes"),
        (r"['\"“”‘’`]", "it is in quotes: send what is between them"),
        (r"<", "it looks like HTML or XML"),
        (r"[{\[]", "it looks like JSON"),
        (r"blob:", "it is a blob: URL, which only its own browser can read"),
        (r"[a-z][a-z0-9+.-]*://", "it looks like a URL with blanks in front of it"),
        (r"https?:", "it looks like a web address without ://"),
        (r"www\.", "it looks like a web address without http:// or https://"),
        (r"[a-z]:[\\/]|\\\\|~/|\.{1,2}[\\/]|/(?!9j/)", "it looks like a file path"),
        (rf"{_FILE_NAME}+\.(png|jpe?g|webp|gif|bmp|tiff?|heic|avif|svg|pdf)$", "it looks like a file path"),
        (r"[a-z0-9+/=_-]*%[0-9a-f]{2}", "it is percent-encoded"),
    )
)


def decode_base64(text: str) -> bytearray:
    """The bytes of a picture that came as text.

    Raises:
        InvalidBase64: not base64.
        InvalidImage: empty.
    """
    start, end = _trimmed(text, 0, len(text))
    if text[start : start + 5].lower() == "data:":
        start, end = _trimmed(text, _data_start(text, start), end)
    elif _is_path(text, start, end):
        raise _looks_like("it looks like a file path", text, start, end)
    if start == end:
        raise InvalidImage("image: is empty, base64, a data URL or a whole http(s) URL is expected", param="image")
    bare_end = end
    while bare_end > max(start, end - 3) and text[bare_end - 1] == "=":
        bare_end -= 1
    data = _decoded(text, start, bare_end, end - bare_end)
    if data is None:
        what = _look(text, start, end)
        raise _looks_like(what, text, start, end) if what else _wrong_character(text, start, bare_end)
    return data


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start] in _BLANKS:
        start += 1
    while end > start and text[end - 1] in _BLANKS:
        end -= 1
    return start, end


def _data_start(text: str, start: int) -> int:
    """Where the data of a data URL begin."""
    comma = text.find(",", start, start + MAX_HEAD_CHARS + 1)
    if comma < 0:
        got = "none" if len(text) - start <= MAX_HEAD_CHARS else f"none in {MAX_HEAD_CHARS} characters"
        raise InvalidBase64(
            f"image: a data URL has a comma before its data, got {got}; allowed: data:…;base64,…", param="image"
        )
    _, separator, last = text[start:comma].rpartition(";")
    if not separator or last.strip(_BLANKS).lower() != "base64":
        raise InvalidBase64(
            f"image: a data URL must end its head with ;base64, got {text[start:comma][-40:]!r} before the comma",
            param="image",
        )
    return comma + 1


def _is_path(text: str, start: int, end: int) -> bool:
    """Whether it is a path, though it may have base64's characters alone: of all pictures, only a JPEG's begins so."""
    return text.startswith("/", start, end) and not text.startswith("/9", start) and end - start <= _PATH_CHARS


def _decoded(text: str, start: int, end: int, padding_chars: int) -> bytearray | None:
    """None: some character does not belong there. Raises InvalidBase64 for a wrong number of them."""
    data, rest, num_chars = bytearray(), b"", 0
    for position in range(start, end, _PIECE_CHARS):
        try:
            piece = text[position : min(end, position + _PIECE_CHARS)].encode("ascii")
            piece = rest + piece.translate(_STANDARD, _LINE_ENDS)
            num_chars += len(piece) - len(rest)
            whole = len(piece) // 4 * 4
            rest = piece[whole:]
            data += binascii.a2b_base64(piece[:whole], strict_mode=True)
            if b"=" in piece:
                return None
        except ValueError:  # binascii.Error, or characters that are not ASCII
            return None
    over = num_chars % 4
    needed = {0: 0, 2: 2, 3: 1}.get(over)
    if needed is None or padding_chars not in (0, needed):
        raise _wrong_length(num_chars, padding_chars, needed)
    if rest:
        try:
            data += binascii.a2b_base64(rest + b"=" * (4 - over), strict_mode=True)
        except ValueError:
            return None
    return data


def _wrong_length(num_chars: int, padding_chars: int, needed: int | None) -> InvalidBase64:
    if needed is None:
        return InvalidBase64(
            f"image: not base64: {num_chars} characters are one more than whole groups of 4, so some are missing",
            param="image",
        )
    return InvalidBase64(
        f"image: not base64: {num_chars} characters are followed by {padding_chars} =, allowed: {needed} or none",
        param="image",
    )


def _look(text: str, start: int, end: int) -> str:
    """What a text of no base64 is; empty: nothing that is known."""
    short = text[start : min(end, start + _PATH_CHARS)]
    return next((what for pattern, what in _LOOKS if pattern.match(short)), "")


def _looks_like(what: str, text: str, start: int, end: int) -> InvalidBase64:
    return InvalidBase64(
        f"image: not base64, {what}; got {text[start : min(end, start + _SHOWN_CHARS)]!r}; allowed: base64, a data URL "
        "or a whole http(s) URL",
        param="image",
    )


def _wrong_character(text: str, start: int, end: int) -> InvalidBase64:
    found = _WRONG.search(text, start, end)
    assert found is not None, "what has base64's characters alone was decoded"
    character = found[0]
    name = unicodedata.name(character, "")
    shown = f"{character!r} " if character.isprintable() and character != " " else ""
    told = f"{shown}(U+{ord(character):04X}{' ' if name else ''}{name})"
    hint = ", which some forms make of +" if character == " " else ""
    return InvalidBase64(
        f"image: not base64: character {found.start() + 1} is {told}{hint}; allowed: A-Z a-z 0-9 + / - _, line ends, "
        "and = at the end",
        param="image",
    )
