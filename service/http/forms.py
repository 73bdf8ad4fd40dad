"""Forms as browsers, shells and libraries send them: text in any charset that is named, pictures under any label.

A part is judged by what it holds before what its head says: few clients write the whole head.
"""

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from service.core.errors import InvalidRequest

if TYPE_CHECKING:  # where alone it is
    from python_multipart.multipart import MultipartCallbacks

_MAX_PARTS = 32
_MAX_HEADERS, _MAX_HEADER_BYTES = 8, 4096  # of one part, and of one of its lines; the parser has about the same
_MAX_BOUNDARY_BYTES = 256  # as the parser; RFC 2046 allows 70
_PICTURE = "image"  # the field that may be a file
_FILE = "file"  # the one that is, of what is uploaded to be kept
_CHARSET = "_charset_"  # the field in which HTML forms name the charset of all
# What text may be in, by Python's names, and what is read as a larger one of its family, as browsers do
_CHARSETS = re.compile(
    r"utf-8|ascii|gb18030|big5|big5hkscs|cp932|euc_jp|iso2022_jp|euc_kr|cp949|iso8859-\d+|cp125\d|koi8-[rtu]|cp866|tis-620"
)
_LARGER = {"gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "big5": "big5hkscs"}
_SIGNATURES = re.compile(
    rb"\x89PNG|\xff\xd8\xff|GIF8[79]a|RIFF....WEBP|BM....\0\0\0\0|II\*\0|MM\0\*|\0\0..ftyp", re.DOTALL
)


@dataclass
class _Part:
    name: str = ""
    is_file: bool = False
    file_name: bytes = b""
    media: str = ""
    charset: str = ""
    data: bytearray = field(default_factory=bytearray)

    @property
    def is_empty(self) -> bool:
        """Nothing; an empty file that has a name was meant."""
        return not self.data and not self.file_name

    @property
    def is_picture(self) -> bool:
        """Whether the field `image` is no text: by its bytes, its type, or what else would be a file of text."""
        if _SIGNATURES.match(self.data) or self.media.startswith("image/") or self.media == "application/octet-stream":
            return True
        return self.is_file and not self.media.startswith("text/")


class _Parts:
    """What the parser calls: collects the parts."""

    def __init__(self) -> None:
        self.all: list[_Part] = []
        self._head: dict[bytes, bytes] = {}
        self._name = self._value = b""
        self._num_headers = 0

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._begin,
            "on_part_data": self._data,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
        }

    def _begin(self) -> None:
        if len(self.all) == _MAX_PARTS:
            raise InvalidRequest(f"body: the form has {_MAX_PARTS + 1} parts or more, at most {_MAX_PARTS} are allowed")
        self.all.append(_Part())
        self._head = {}
        self._num_headers = 0

    def _data(self, data: bytes, start: int, end: int) -> None:
        self.all[-1].data += data[start:end]

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._num_headers += 1
        if self._num_headers > _MAX_HEADERS:
            raise self.too_many_headers()
        if len(self._name) + len(self._value) > _MAX_HEADER_BYTES:
            raise self.too_long_header()
        self._head[self._name.lower()] = self._value
        self._name = self._value = b""

    def _headers_finished(self) -> None:
        part = self.all[-1]
        _, options = parse_options_header(self._head.get(b"content-disposition"))
        if b"name" not in options:
            got = self._head.get(b"content-disposition", b"").decode("utf-8", "replace")[:40]
            raise InvalidRequest(
                f"body: part {len(self.all)} of the form has no name in its Content-Disposition, got {got or 'none'}; "
                'allowed: form-data; name="…"'
            )
        part.name = options[b"name"].decode("utf-8", "replace")
        part.is_file = b"filename" in options or b"filename*" in options
        part.file_name = options.get(b"filename") or options.get(b"filename*", b"")
        media, options = parse_options_header(self._head.get(b"content-type"))
        part.media = media.decode("latin-1").strip().lower()
        part.charset = options.get(b"charset", b"").decode("latin-1")

    def too_many_headers(self) -> InvalidRequest:
        return InvalidRequest(
            f"body: part {len(self.all)} of the form has {_MAX_HEADERS + 1} header lines or more, at most "
            f"{_MAX_HEADERS} are allowed"
        )

    def too_long_header(self) -> InvalidRequest:
        return InvalidRequest(
            f"body: part {len(self.all)} of the form has a header line of more than the {_MAX_HEADER_BYTES} bytes "
            "allowed"
        )


async def read_form(request: Request) -> tuple[dict[str, str], bytes | None]:
    """The fields that hold something, and the picture's bytes where it was sent as bytes.

    Raises InvalidRequest naming the field.
    """
    parts, charset = await _read(request)
    fields: dict[str, str] = {}
    picture: bytes | None = None
    for part in _each_once(parts):
        if part.name == _CHARSET or (part.is_empty and part.name != "question"):
            continue  # a browser sends every field of its form, also those that nobody filled in
        if part.name == _PICTURE and part.is_picture:
            picture = bytes(part.data)
        elif part.is_file and part.name != _PICTURE:
            raise InvalidRequest(
                f"{part.name[:80]}: is a file, and only the field image may be one", param=part.name[:80]
            )
        else:
            fields[part.name] = _text(part, part.charset or charset)
    return fields, picture


class UploadedFile(NamedTuple):
    """A file of a form, as it was sent."""

    name: str
    content: bytes


async def read_upload(request: Request) -> tuple[dict[str, str], UploadedFile]:
    """The fields that hold something, and the form's one file, in the field `file`.

    Raises InvalidRequest naming the field.
    """
    parts, charset = await _read(request)
    fields: dict[str, str] = {}
    upload: UploadedFile | None = None
    for part in _each_once(parts):
        if part.name == _FILE:
            upload = UploadedFile(part.file_name.decode("utf-8", "replace"), bytes(part.data))
        elif part.is_file:
            raise InvalidRequest(
                f"{part.name[:80]}: is a file, and only the field file may be one", param=part.name[:80]
            )
        elif not part.is_empty and part.name != _CHARSET:
            fields[part.name] = _text(part, part.charset or charset)
    if upload is None:
        raise InvalidRequest("file: is missing from the form, the file itself is needed", param=_FILE)
    return fields, upload


def _each_once(parts: Iterable[_Part]) -> Iterator[_Part]:
    """Raises InvalidRequest for a field that is there twice."""
    seen: set[str] = set()
    for part in parts:
        if part.name in seen:
            raise InvalidRequest(f"{part.name[:80]}: is given twice, once is allowed", param=part.name[:80])
        seen.add(part.name)
        yield part


async def _read(request: Request) -> tuple[list[_Part], str]:
    """The form's parts, and what texts are in that name no charset. Raises InvalidRequest."""
    media, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary", b"")
    if not 0 < len(boundary) <= _MAX_BOUNDARY_BYTES:
        got = f"one of {len(boundary)} bytes" if boundary else "none"
        raise InvalidRequest(
            f"body: the Content-Type of a form names its boundary, got {got}; allowed: {media.decode('latin-1')}; "
            f"boundary=… of 1 to {_MAX_BOUNDARY_BYTES} bytes"
        )
    parts = await _parsed(request, boundary)
    charset = options.get(b"charset", b"").decode("latin-1")
    for part in parts:
        if part.name == _CHARSET:
            charset = part.data.decode("latin-1").strip() or charset
    return parts, charset or "utf-8"


async def _parsed(request: Request, boundary: bytes) -> list[_Part]:
    parts = _Parts()
    read_bytes = 0
    try:
        parser = MultipartParser(boundary, parts.callbacks())
        async for chunk in request.stream():
            parser.write(chunk)
            read_bytes += len(chunk)
        parser.finalize()
    except FormParserError as error:
        raise _unreadable(error, parts, read_bytes) from None
    return parts.all


def _unreadable(error: FormParserError, parts: _Parts, read_bytes: int) -> InvalidRequest:
    """In words of ours: the parser's are about its states. `read_bytes` came before the piece at fault."""
    if "header count" in str(error):
        return parts.too_many_headers()
    if "header size" in str(error):
        return parts.too_long_header()
    place = read_bytes + max(0, getattr(error, "offset", 0))
    return InvalidRequest(
        f"body: not a readable form: byte {place} belongs to no boundary and no header line; allowed: --boundary, "
        "header lines, an empty line and the content of each part, and --boundary-- behind the last"
    )


def _text(part: _Part, named: str) -> str:
    """Raises InvalidRequest naming the field, and the first byte that is not of the charset."""
    name = part.name[:80]
    try:
        charset = codecs.lookup(named).name
    except (LookupError, ValueError):  # ValueError: a NUL in it
        charset = ""
    charset = _LARGER.get(charset, charset)
    if not _CHARSETS.fullmatch(charset) and part.data.isascii():
        charset = "ascii"  # the same in all that it can be
    if not _CHARSETS.fullmatch(charset):
        raise InvalidRequest(f"{name}: the charset {named[:40]!r} is not known, UTF-8 expected", param=name)
    try:
        return part.data.decode(charset)
    except UnicodeDecodeError as error:
        what, expected = f"byte {error.start} (0x{part.data[error.start]:02x})", charset.upper()
        hint = (
            "; other charsets are named by the part's Content-Type or a field _charset_" if charset == "utf-8" else ""
        )
        raise InvalidRequest(f"{name}: {expected} expected, and {what} is not of it{hint}", param=name) from None
