"""JSON bodies and forms that a parser could choke on."""

import base64
import gzip
import json
import zlib
from collections.abc import Iterator

from tests.attacks.case import QUESTION, SHORT, Case, Sent
from tests.attacks.files import png_flat

_PICTURE = png_flat(8, 8)
_IMAGE = base64.b64encode(_PICTURE).decode()
_SOUND = {"image": _IMAGE, "question": QUESTION, **SHORT}
_DEPTH = 10_000


def _json(**fields: object) -> bytes:
    return json.dumps({**_SOUND, **fields}, ensure_ascii=False).encode()


def _raw(field: bytes) -> bytes:
    """A sound body with one more member, written as it is."""
    return json.dumps(_SOUND).encode()[:-1] + b", " + field + b"}"


def _crumbs() -> Sent:
    """Chunks in their framing, so that the sender is not the slow one."""
    chunks = b"1\r\n \r\n" * 100_000 + b"0\r\n\r\n"
    return Sent(chunks, {"Content-Type": "application/json", "Transfer-Encoding": "chunked"})


def _coded(body: bytes, coding: str) -> Sent:
    return Sent(body, {"Content-Type": "application/json", "Content-Encoding": coding})


def _packed(coding: str) -> Sent:
    body = b" " * (24 << 20)
    return _coded(gzip.compress(body) if coding == "gzip" else zlib.compress(body), coding)


def _too_long() -> Iterator[bytes]:
    yield from (bytes(1 << 20) for _ in range(24))


_BODIES = {
    "nothing": b"",
    "not json": b"image=AAAA&question=x",
    "a number": b"5",
    "an array": b"[]",
    "null": b"null",
    "cut off": _json()[:-1],
    "two documents": _json() + _json(),
    "bytes that are not utf-8": _raw(b'"x": "\xff\xfe"'),
    "utf-16": json.dumps(_SOUND).encode("utf-16"),
    "utf-32": json.dumps(_SOUND).encode("utf-32"),
    "arrays 10,000 deep": b"[" * _DEPTH + b"]" * _DEPTH,
    "arrays 10,000 deep and open": b"[" * _DEPTH,
    "objects 10,000 deep": b'{"image":' * _DEPTH + b"1" + b"}" * _DEPTH,
    "an image of arrays 10,000 deep": _raw(b'"seed": ' + b"[" * _DEPTH + b"]" * _DEPTH),
    "NaN": _raw(b'"temperature": NaN'),
    "infinity": _raw(b'"temperature": Infinity'),
    "minus infinity": _raw(b'"top_p": -Infinity'),
    "a number beyond doubles": _raw(b'"temperature": 1e400'),
    "a number of 5,000 digits": _raw(b'"seed": ' + b"9" * 5000),
    "a seed beyond 2⁵³": _json(seed=2**53),
    "minus zero tokens": _json(max_new_tokens=-0),
    "a million beams": _json(num_beams=1_000_000),
    "a switch as text": _json(stream="true"),
    "a number as text": _json(seed="7"),
    "an unknown field": _json(__proto__={"is_admin": True}),
    "100,000 unknown fields": json.dumps({f"f{i}": i for i in range(100_000)}).encode(),
    "an image of a million numbers": _json(image=[1] * 1_000_000),
    "an image of a million arrays": _json(image=[[]] * 1_000_000),
    "an image of 100,000 members": _json(image={f"m{i}": 1 for i in range(100_000)}),
    "a million commas": b"," * 1_000_000,
    "a question of 100,000 emoji": _json(question="🦊" * 100_000),
    "a question of NUL": _json(question="a\0b"),
    "half of a surrogate pair": _raw(b'"conversation_id": "\\ud83d"'),
    "a question of half a pair": _json(question="X").replace(b'"X"', b'"\\ude00\\ud83d"'),
    "an empty question": _json(question=""),
    "no question": json.dumps({"image": _IMAGE}).encode(),
    "a compressed body": gzip.compress(_json() + b" " * (16 << 20)),
    "raw control characters": _raw(b'"conversation_id": "\x01\x02"'),
    "comments": b"/* x */" + _json(),
    "single quotes": str(_SOUND).encode(),
}

_HARMLESS = {
    "a byte order mark": b"\xef\xbb\xbf" + _json(),
    "right to left": _json(question="echo \u202eمرحبا"),
    "joined emoji": _json(question="echo 👩‍👩‍👧‍👦🏳️‍🌈"),
    "stacked accents": _json(question="echo Z" + "\u0301" * 500),
    "the same member twice": _raw(b'"question": "echo y"'),
    "a megabyte of white space": b" " * (1 << 20) + _json(),
}

_TYPES = {
    "no content type": "",
    "plain text": "text/plain",
    "xml": "application/xml",
    "a form in the url's encoding": "application/x-www-form-urlencoded",
    "json's cousin": "application/jsonp",
    "a picture": "image/png",
    "two types": "text/plain, application/json",
}


def _typed(content_type: str) -> Sent:
    return Sent(_json(), {"Content-Type": content_type} if content_type else {})


JSON: list[Case] = [
    Case("bodies", name, lambda _, body=body: Sent(body), 400, "invalid_request")  # type: ignore[misc]
    for name, body in _BODIES.items()
] + [
    *(Case("bodies", name, lambda _, body=body: Sent(body), 200, "") for name, body in _HARMLESS.items()),  # type: ignore[misc]
    *(
        Case("bodies", name, lambda _, kind=kind: _typed(kind), 415, "unsupported_media_type")  # type: ignore[misc]
        for name, kind in _TYPES.items()
    ),
    Case("bodies", "100,000 chunks of one byte", lambda _: _crumbs(), 400, "invalid_request"),
    Case("bodies", "24 MB in chunks", lambda _: Sent(_too_long), 413, "content_too_large"),
    Case("bodies", "24 MB of white space", lambda _: Sent(b" " * (24 << 20)), 413, "content_too_large"),
    *(
        Case("bodies", f"24 MB in {coding}", lambda _, coding=coding: _packed(coding), 413, "content_too_large")  # type: ignore[misc]
        for coding in ("gzip", "deflate")
    ),
    Case("bodies", "brotli", lambda _: _coded(b"\x0b\x02\x80", "br"), 415, "unsupported_media_type"),
    Case("bodies", "gzip that is none", lambda _: _coded(_json(), "gzip"), 400, "invalid_request"),
    Case(
        "bodies",
        "a million empty members",
        lambda _: _coded(gzip.compress(b"") * 1_000_000, "gzip"),
        400,
        "invalid_request",
    ),
    Case("bodies", "a body that never ends", lambda _: Sent(_json(), stops_early=True), 408, "body_timeout", "", True),
    Case("bodies", "a prompt of NUL", lambda _: Sent(b'{"prompt": "\\u0000"}', path="/paint"), 400, "invalid_request"),
    Case("bodies", "arrays 10,000 deep to paint", lambda _: Sent(b"[" * _DEPTH, path="/paint"), 400, "invalid_request"),
]

_BOUNDARY = "frontier"


def _part(name: str, value: bytes, *fields: str, file_name: str | None = None) -> bytes:
    disposition = f'Content-Disposition: form-data; name="{name}"'
    if file_name is not None:
        disposition += f'; filename="{file_name}"'
    return "\r\n".join([f"--{_BOUNDARY}", disposition, *fields, "", ""]).encode() + value + b"\r\n"


def _form(*parts: bytes, content_type: str = f"multipart/form-data; boundary={_BOUNDARY}", end: str = "--") -> Sent:
    return Sent(b"".join(parts) + f"--{_BOUNDARY}{end}\r\n".encode(), {"Content-Type": content_type})


_QUESTION = _part("question", QUESTION.encode()) + _part("max_new_tokens", b"2") + _part("num_beams", b"1")
_FILE = _part("image", _PICTURE, file_name="a.png")

_FORMS = {
    "two pictures": (_form(_QUESTION, _FILE, _FILE), "invalid_request"),
    "a picture as file and as text": (_form(_QUESTION, _FILE, _part("image", _IMAGE.encode())), "invalid_request"),
    "two questions": (_form(_QUESTION, _part("question", b"again"), _FILE), "invalid_request"),
    "a file for a question": (_form(_part("question", b"x", file_name="q.txt"), _FILE), "invalid_request"),
    "a file of no field": (_form(_QUESTION, _part("other", b"x", file_name="../../x")), "invalid_request"),
    "40 fields": (_form(_QUESTION, *[_part(f"f{i}", b"x") for i in range(40)]), "invalid_request"),
    "an unknown field": (_form(_QUESTION, _FILE, _part("is_admin", b"1")), "invalid_request"),
    "50,000 parts": (_form(*[_part("f", b"")] * 50_000), "invalid_request"),
    "a part with a megabyte of fields": (
        _form(_part("question", b"x", "X: " + "y" * (1 << 20)), _FILE),
        "invalid_request",
    ),
    "a part with 100,000 fields": (_form(_part("question", b"x", *["X: y"] * 100_000), _FILE), "invalid_request"),
    "no boundary": (_form(_QUESTION, content_type="multipart/form-data"), "invalid_request"),
    "another boundary": (_form(_QUESTION, content_type="multipart/form-data; boundary=other"), "invalid_request"),
    "a boundary of 100,000": (
        _form(_QUESTION, content_type="multipart/form-data; boundary=" + "b" * 60_000),
        "invalid_request",
    ),
    "no end": (_form(_QUESTION, _FILE, end=""), ""),
    "an unknown charset": (
        _form(_QUESTION, content_type=f"multipart/form-data; boundary={_BOUNDARY}; charset=x"),
        "",
    ),
    "fields in another encoding": (_form(_part("question", b"\xff\xfe"), _FILE), "invalid_request"),
    "an empty picture": (_form(_QUESTION, _part("image", b"", file_name="a.png")), "invalid_image"),
    "a picture of text": (
        _form(_QUESTION, _part("image", b"hello", "Content-Type: image/png", file_name="a.png")),
        "invalid_image",
    ),
    "a png bomb": (
        _form(_QUESTION, _part("image", png_flat(50_000, 50_000, 1, 0), file_name="a.png")),
        "image_too_large",
    ),
    "a picture with a path": (_form(_QUESTION, _part("image", _PICTURE, file_name="../../../etc/cron.d/x")), ""),
    "a picture without a type": (_form(_QUESTION, _FILE), ""),
    "a picture that says html": (
        _form(_QUESTION, _part("image", _PICTURE, "Content-Type: text/html", file_name="a.html")),
        "",
    ),
}

FORMS: list[Case] = [
    Case("forms", name, lambda _, sent=sent: sent, 400 if code else 200, code)  # type: ignore[misc]
    for name, (sent, code) in _FORMS.items()
] + [
    Case(
        "forms",
        "24 MB",
        lambda _: _form(_QUESTION, _part("image", bytes(24 << 20), file_name="a.png")),
        413,
        "content_too_large",
    ),
    Case(
        "forms",
        "a form to paint",
        lambda _: Sent(_form(_QUESTION).body, {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}, "/paint"),
        415,
        "unsupported_media_type",
    ),
]

CASES: list[Case] = JSON + FORMS
