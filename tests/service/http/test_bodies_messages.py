"""Refusals say what was wrong, what was got and what is allowed, in the words of HTTP and JSON and not of Python."""

import base64
import io
import json
import re
import struct
from typing import Any

import pytest
from PIL import Image

from tests.service.web import Service, encoded, picture_bytes
from tests.service.wire import body_of, post, said

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def service(recounted_service: Service) -> Service:
    return recounted_service


PYTHON = re.compile(
    r"\b(dict|list\[|str|tuple|bytes\(|NoneType|None|True|False|\w+Error|Errno|object at|instance of)\b"
)
FIELDS = (
    "max_new_tokens, num_beams, do_sample, temperature, top_k, top_p, repetition_penalty, repetition_window, "
    "length_penalty, seed, stream, strict_length, include, priority, callback_url, raw, image, question, "
    "conversation_id"
)


def chat(**fields: Any) -> tuple[str, bytes, bytes]:
    return "/chat", json.dumps({"question": "q", **fields}).encode(), b"application/json"


def paint(**fields: Any) -> tuple[str, bytes, bytes]:
    return "/paint", json.dumps({"prompt": "p", **fields}).encode(), b"application/json"


def moderation(content: Any) -> tuple[str, bytes, bytes]:
    return "/v1/moderations", json.dumps({"input": content}).encode(), b"application/json"


def raw(body: bytes, media: bytes = b"application/json") -> tuple[str, bytes, bytes]:
    return "/chat", body, media


def form(*parts: bytes, end: bytes = b"--X--\r\n", media: bytes = b"multipart/form-data; boundary=X") -> Any:
    body = b"".join(b"--X\r\n" + part + b"\r\n" for part in (QUESTION, *parts))
    return "/chat", body + end, media


def part(name: bytes, content: bytes = b"x", *lines: bytes) -> bytes:
    return b"\r\n".join([b'Content-Disposition: form-data; name="%b"' % name, *lines, b"", content])


def picture(data: bytes | str) -> tuple[str, bytes, bytes]:
    return chat(image=data if isinstance(data, str) else base64.b64encode(data).decode())


def saved(kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((24, 16), 60).convert("RGB").save(buffer, kind, **options)
    return buffer.getvalue()


def bmp_of_compression(number: int) -> bytes:
    data = bytearray(saved("BMP"))
    data[30:34] = struct.pack("<I", number)
    return bytes(data)


QUESTION = part(b"question", b"echo x")
PNG = saved("PNG")
JPEG = saved("JPEG")

REFUSALS = {
    # Forms: what is limited, and what is broken
    "parts": (form(*[part(b"seed")] * 40), "body: the form has 33 parts or more, at most 32 are allowed"),
    "header lines": (
        form(part(b"seed", b"1", *[b"X-N: 1"] * 9)),
        "body: part 2 of the form has 9 header lines or more, at most 8 are allowed",
    ),
    "header bytes": (
        form(part(b"seed", b"1", b"X-N: " + b"n" * 5000)),
        "body: part 2 of the form has a header line of more than the 4096 bytes allowed",
    ),
    "no boundary": (
        form(media=b"multipart/form-data"),
        "body: the Content-Type of a form names its boundary, got none; allowed: multipart/form-data; boundary=… of 1 "
        "to 256 bytes",
    ),
    "long boundary": (
        form(media=b"multipart/form-data; boundary=" + b"X" * 300),
        "body: the Content-Type of a form names its boundary, got one of 300 bytes; allowed: multipart/form-data; "
        "boundary=… of 1 to 256 bytes",
    ),
    "other boundary": (
        form(media=b"multipart/form-data; boundary=Y"),
        "body: not a readable form: byte 2 belongs to no boundary and no header line; allowed: --boundary, header "
        "lines, an empty line and the content of each part, and --boundary-- behind the last",
    ),
    "broken header": (
        form(b"Content Disposition: form-data\r\n\r\nx"),
        "body: not a readable form: byte 76 belongs to no boundary and no header line; allowed: --boundary, header "
        "lines, an empty line and the content of each part, and --boundary-- behind the last",
    ),
    "part without a name": (
        form(b"Content-Disposition: form-data\r\n\r\nx"),
        'body: part 2 of the form has no name in its Content-Disposition, got form-data; allowed: form-data; name="…"',
    ),
    "part without a disposition": (
        form(b"Content-Type: text/plain\r\n\r\nx"),
        'body: part 2 of the form has no name in its Content-Disposition, got none; allowed: form-data; name="…"',
    ),
    "field twice": (form(part(b"seed", b"1"), part(b"seed", b"2")), "seed: is given twice, once is allowed"),
    "file for text": (
        form(b'Content-Disposition: form-data; name="mask"; filename="a.png"\r\n\r\nx'),
        "mask: is a file, and only the field image may be one",
    ),
    "unknown in a form": (form(part(b"colour")), f"colour: unknown field; allowed: {FIELDS}"),
    "number in a form": (
        form(part(b"seed", b"x")),
        "seed: Input should be a valid integer, unable to parse string as an integer, got 'x'",
    ),
    # JSON
    "empty": (raw(b" "), "body: is empty (1 bytes), a JSON object is needed"),
    "list": (raw(b"[1]"), "body: Input should be an object, got a list of 1"),
    "null": (raw(b"null"), "body: Input should be an object, got null"),
    "UTF-16": (raw('{"question": "q"}'.encode("utf-16")), "body: is in UTF-16, UTF-8 expected"),
    "media": (raw(b"x", b"text/plain"), "Content-Type must be application/json or multipart/form-data, got text/plain"),
    "unknown": (chat(colour=1, shape=2), f"colour: unknown field (and 1 more); allowed: {FIELDS}"),
    "object": (chat(image={"url": "x"}), "image: Input should be a valid string, got an object of 'url'"),
    "true": (chat(seed=True), "seed: Input should be a valid integer, got true"),
    "range": (chat(do_sample=True, temperature=99), "temperature: must be from 0 to 10, got 99"),
    "long text": (chat(question="q" * 9000), "question: has 9000 characters, at most 8192 are allowed"),
    "NUL": (chat(question="a\0b"), "question: contains a NUL character (character 2)"),
    "blanks": (
        chat(question=" \t"),
        "question: has nothing but blanks and control characters (2); at least one to be seen is needed",
    ),
    "size": (paint(size="0x64"), "size: must be auto, or width x height in pixels such as 512x512, got '0x64'"),
    "size of a number": (paint(size=64), "size: Input should be a valid string, got 64"),
    "rerank": (paint(rerank="yes"), "rerank: must be true, false or 'auto', got 'yes'"),
    "kind": (moderation(5), "input: must be a text, a list of texts or a list of parts, got 5"),
    "kinds": (moderation(["a", {}]), "input: must be a text, a list of texts or a list of parts, got a list of 2"),
    "part": (moderation([{"type": "video"}]), "input.0: needs a type of 'text', 'image_url', got 'video'"),
    "part without a type": (moderation([{}]), "input.0: needs a type"),
    "part of text": (
        moderation([{"type": "text", "text": 5}]),
        "input.0.text: Input should be a valid string, got 5",
    ),
    "part of a picture": (
        moderation([{"type": "image_url", "image_url": "x"}]),
        "input.0.image_url: Input should be an object, got 'x'",
    ),
    "unknown in a part": (moderation([{"type": "text", "text": "t", "x": 1}]), "input.0.x: unknown field"),
    # Pictures
    "empty picture": (picture(""), "image: is empty, base64, a data URL or a whole http(s) URL is expected"),
    "cut PNG": (
        picture(PNG[:60]),
        "image: cannot be decoded, this PNG of 60 bytes is cut off: its data end before it does",
    ),
    "cut JPEG": (
        picture(JPEG[:100]),
        "image: cannot be decoded, this JPEG of 100 bytes is cut off: its data end before it does",
    ),
    "no pixels": (
        picture(PNG[:16] + bytes(4) + PNG[20:]),
        f"image: cannot be decoded, this PNG of {len(PNG)} bytes is without pixels: its header tells 0×16",
    ),
    "compressed BMP": (
        picture(bmp_of_compression(1)),
        f"image: cannot be decoded, this BMP of {len(saved('BMP'))} bytes is of compression 1; allowed: 0 (none), and "
        "3 and 6 (bit fields)",
    ),
    "PDF": (
        picture(b"%PDF-1.7"),
        "image: not a picture of a known format, it is a PDF document; allowed: PNG, JPEG, WEBP, GIF, BMP",
    ),
    "two pictures": (
        form(
            part(b"image", encoded().encode()),
            part(b"image", picture_bytes(), b"Content-Type: image/png"),
        ),
        "image: is given twice, once is allowed",
    ),
    "path": (
        picture("C:\\a.png"),
        "image: not base64, it looks like a file path; got 'C:\\\\a.png'; allowed: base64, a data URL or a whole "
        "http(s) URL",
    ),
}


@pytest.mark.parametrize("kind", REFUSALS)
async def test_a_refusal_says_what_was_wrong_got_and_allowed(service: Service, kind: str) -> None:
    (path, body, media), message = REFUSALS[kind]
    error = body_of(await said(service.url, post(path, body, media=media)))["error"]
    told = error["message"].replace(", AVIF, HEIC, TIFF", "")  # where the extra formats are installed
    assert told == message
    assert told.isprintable() and len(told) < 400 and not PYTHON.search(told.replace(FIELDS, ""))
    assert await service.accounting() in ({}, {"refused": 1})
