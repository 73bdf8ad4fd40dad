"""Random forms, data URLs and JSON bodies: nearly right, since what is wholly wrong ends at the first check.

Texts for a model begin with `echo `, so that a scripted engine answers them at once.
"""

import base64
import gzip
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import strategies as st

from tests.attacks.files import gif, gif_frame, photo, png_flat, saved, webp_frames
from tests.service.heic import heic

_BOUNDARY = "X"


@dataclass(frozen=True)
class RandomRequest:
    path: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def _bitten(whole: bytes) -> st.SearchStrategy[bytes]:
    """With a few bytes changed, taken out or put in, or cut off."""
    edits = st.lists(
        st.tuples(st.integers(0, max(0, len(whole) - 1)), st.integers(0, 3), st.binary(max_size=4)), max_size=4
    )

    def apply(places: list[tuple[int, int, bytes]]) -> bytes:
        data = whole
        for position, removed, put_in in sorted(places, reverse=True):
            data = data[:position] + put_in + data[position + removed :]
        return data

    return edits.map(apply) | st.integers(0, len(whole)).map(lambda end: whole[:end])


_PICTURES: list[bytes] = [
    *(saved(photo(), kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")),
    saved(photo(), "JPEG", progressive=True),
    saved(photo().convert("RGBA"), "PNG"),
    saved(photo().convert("P"), "PNG", transparency=0),
    saved(photo(), "TIFF", compression="tiff_lzw"),
    png_flat(64, 64, 16, 0, 1),
    gif(gif_frame(8, 8, 2, 2), width_px=32, height_px=32),
    webp_frames(3),
    heic(photo()),
    heic(photo().convert("RGBA"), photo(64, 64), quality=30, chroma=420),
]
pictures = st.sampled_from(_PICTURES).flatmap(_bitten) | st.binary(max_size=64)

# Data URLs -----------------------------------------------------------------------------------------------------------

_blanks = st.text(" \t\r\n\f\v\u00a0\ufeff\u3000", max_size=3)
_heads = st.lists(
    st.sampled_from(
        ["image/png", ";base64", ";BASE64", ";charset=utf-8", ";name=a b.png", " ", ";", "%2C", "/", "data:"]
    )
    | st.text(max_size=12)
    | st.integers(200, 9000).map(lambda length: ";name=" + "n" * length),
    max_size=5,
).map("".join)
_base64 = pictures.flatmap(
    lambda data: st.sampled_from(
        [
            base64.b64encode(data).decode(),
            base64.urlsafe_b64encode(data).decode().rstrip("="),
            base64.encodebytes(data).decode(),
            base64.b32encode(data).decode(),
            data.hex(),
            repr(base64.b64encode(data)),
        ]
    )
)


def _joined(parts: tuple[str, ...]) -> str:
    return "".join(parts)


_data_urls = st.tuples(
    _blanks, st.sampled_from(["data:", "DATA:", "data:"]), _heads, st.sampled_from([",", ";base64,"])
)
images = (
    st.tuples(_data_urls.map(_joined), _base64, _blanks).map(_joined)
    | st.tuples(_blanks, _base64, _blanks).map(_joined)
    | st.sampled_from(["/etc/passwd", "www.example.org/a.png", "http://127.0.0.1/a.png", "file:///a", "C:\\a.png", ""])
    | st.text(max_size=40)
)

# JSON ---------------------------------------------------------------------------------------------------------------

_numbers = (
    st.sampled_from([0, -1, 1, 2, 4, 64, 2**31, 2**53 - 1, 2**53, 2**63, 10**400, 0.0, -0.0, 0.5, 64.0, 1e2, 1e308])
    | st.integers()
    | st.floats()
)
_values = st.recursive(
    st.none() | st.booleans() | _numbers | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_questions = st.text(max_size=40).map("echo ".__add__)
_parts = st.lists(
    st.fixed_dictionaries({"type": st.just("text"), "text": _questions})
    | st.fixed_dictionaries({"type": st.just("image_url"), "image_url": st.fixed_dictionaries({"url": images})})
    | _values,
    max_size=3,
)

_roles = st.sampled_from(("user", "assistant", "system", "developer", "tool"))
_messages = st.lists(
    st.fixed_dictionaries({"role": _roles, "content": _questions | _parts}, optional={"name": _values}) | _values,
    max_size=4,
).map(lambda talk: [*talk, {"role": "user", "content": "echo x"}])
_searches = (
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "num_beams",
    "use_beam_search",
    "length_penalty",
    "stream",
    "tools",
)

_FIELDS: dict[str, tuple[dict[str, st.SearchStrategy[object]], tuple[str, ...]]] = {
    "/chat": (
        {"question": _questions, "image": images},
        (
            *("conversation_id", "stream", "max_new_tokens", "num_beams", "do_sample", "temperature", "top_k", "top_p"),
            *("repetition_penalty", "repetition_window", "length_penalty", "seed", "strict_length", "raw", "other"),
        ),
    ),
    "/paint": (
        {"prompt": _questions, "negative_prompt": st.text(max_size=20)},
        (
            *("n", "candidates", "rerank", "num_inference_steps", "guidance_scale", "size", "seed", "output_format"),
            *("output_compression", "response_format", "stream", "partial_images", "raw", "other"),
        ),
    ),
    "/v1/chat/completions": (
        {"model": st.just("gpt-4o"), "messages": _messages},
        (*_searches, "n", "stop", "max_tokens", "stream_options", "moderation", "response_format", "audio", "other"),
    ),
    "/v1/responses": (
        {"model": st.just("gpt-4o"), "input": _messages | _questions},
        (*_searches, "instructions", "previous_response_id", "store", "truncation", "text", "include", "other"),
    ),
    "/v1/images/generations": (
        {"prompt": _questions, "negative_prompt": st.text(max_size=20)},
        (
            *("n", "model", "size", "response_format", "output_format", "output_compression", "stream", "quality"),
            *("partial_images", "candidates", "rerank", "num_inference_steps", "guidance_scale", "seed", "other"),
        ),
    ),
    "/v1/moderations": ({"input": _parts | _questions | st.lists(_questions, max_size=3)}, ("model", "other")),
}


def _encodings(body: dict[str, object]) -> st.SearchStrategy[bytes]:
    text = json.dumps(body)
    plain = text.encode()
    raw = json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
    others = [b"\xef\xbb\xbf" + plain, text.encode("utf-16"), text.encode("utf-32"), plain + plain, b"[" * 5000 + plain]
    return st.just(plain) | st.just(raw) | _bitten(plain) | st.sampled_from(others)


def _json_of(path: str) -> st.SearchStrategy[RandomRequest]:
    needed, others = _FIELDS[path]
    bodies = st.tuples(
        st.fixed_dictionaries({}, optional=needed), st.dictionaries(st.sampled_from(others), _values, max_size=3)
    ).map(lambda both: {**both[1], **both[0]})
    return bodies.flatmap(_encodings).map(lambda body: RandomRequest(path, body, {"Content-Type": "application/json"}))


json_bodies = st.sampled_from(list(_FIELDS)).flatmap(_json_of)
data_urls = st.tuples(images, st.booleans()).map(
    lambda drawn: RandomRequest(
        "/chat",
        json.dumps({"question": "echo x", "image": drawn[0], "raw": drawn[1]}).encode(),
        {"Content-Type": "application/json"},
    )
)

# Forms --------------------------------------------------------------------------------------------------------------

_names = st.sampled_from(["question", "image", "seed", "stream", "num_beams", "temperature", "raw", "_charset_", ""])
_files = st.sampled_from(["", '; filename="a.png"', '; filename=""', "; filename*=UTF-8''%E7%ff", "; filename*=x"])
_media = st.sampled_from(
    ["", "image/png", "text/plain", "text/plain; charset=gbk", "text/plain; charset=big5", "; charset=\0", "a/b; c"]
) | st.sampled_from(["utf-7", "utf-16", "idna", "punycode", "hz", "iso2022_jp", "rot13", "zip", "none", "é"]).map(
    "text/plain; charset=".__add__
)
_contents = (
    pictures
    | st.text(max_size=20).map(lambda text: f"echo {text}".encode("utf-8", "replace"))
    | st.sampled_from(
        [b"", b"1", b"1e2", b"64.0", b"true", b"gbk", b"--X", b"\r\n--X--\r\n", "echo 图".encode("gbk"), b"\xff\xfe\0"]
    )
)


def _part(drawn: tuple[str, str, str, bytes]) -> bytes:
    name, file, media, content = drawn
    type_line = f"Content-Type: {media}\r\n" if media else ""
    head = f'Content-Disposition: form-data; name="{name}"{file}\r\n{type_line}\r\n'
    return f"--{_BOUNDARY}\r\n{head}".encode() + content + b"\r\n"


_question_part = _part(("question", "", "", b"echo form"))
_bodies = (
    st.lists(st.tuples(_names, _files, _media, _contents).map(_part), max_size=4)
    .map(lambda parts: b"".join([_question_part, *parts]) + f"--{_BOUNDARY}--\r\n".encode())
    .flatmap(lambda body: st.just(body) | _bitten(body))
)
_form_types = st.sampled_from(
    [
        *("multipart/form-data; boundary=X",) * 6,
        "multipart/form-data; boundary=X; charset=gbk",
        'multipart/form-data; boundary="X"; charset="none-such"',
        "multipart/form-data; boundary=" + "Y" * 300,
        "multipart/form-data; boundary*=UTF-8''X",
    ]
)
forms = st.tuples(_bodies, _form_types).map(lambda drawn: RandomRequest("/chat", drawn[0], {"Content-Type": drawn[1]}))

# With a coding around some of them ------------------------------------------------------------------------------------

_CODINGS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress, "br": bytes}


def _coded(request: RandomRequest) -> st.SearchStrategy[RandomRequest]:
    def packed(coding: str) -> st.SearchStrategy[RandomRequest]:
        headers = {**request.headers, "Content-Encoding": coding}
        whole = _CODINGS[coding](request.body)
        return (st.just(whole) | _bitten(whole)).map(lambda body: RandomRequest(request.path, body, headers))

    return st.sampled_from([*(None,) * 5, *_CODINGS]).flatmap(
        lambda coding: st.just(request) if coding is None else packed(coding)
    )


requests = (json_bodies | data_urls | forms).flatmap(_coded)
