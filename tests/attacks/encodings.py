"""Base64 and data URLs that are not what they say."""

import base64
import json
import os
from functools import cache

from tests.attacks.case import QUESTION, Case, Sent, asked
from tests.attacks.files import photo, png_flat, saved

_PNG = base64.b64encode(png_flat(8, 8)).decode()
_PADDED = base64.b64encode(png_flat(8, 8) + b"x" * ((1 - len(png_flat(8, 8))) % 3)).decode()  # ends with ==
_JPEG = base64.b64encode(saved(photo(), "JPEG")).decode()
_LARGE_BYTES = 30 << 20


@cache
def _large() -> str:
    return base64.b64encode(os.urandom(1 << 20)).decode()[: 1 << 20]


def _oversized(_: object) -> Sent:
    return asked(_large() * (_LARGE_BYTES >> 20))


_TEXTS = {
    "no padding": (_PADDED.rstrip("="), ""),
    "too much padding": (_PADDED + "=", "invalid_base64"),
    "padding in the middle": (_PADDED + _PNG, "invalid_base64"),
    "padding alone": ("====", "invalid_base64"),
    "a line break": (_PNG[:76] + "\n" + _PNG[76:] + "   ", ""),
    "spaces around": (f"  {_PNG}  ", ""),
    "a space inside": (_PNG[:40] + " " + _PNG[40:], "invalid_base64"),
    "url-safe alphabet of no picture": ("-_-_" * 9, "invalid_image"),
    "a byte order mark": ("\ufeff" + _PNG, "invalid_base64"),
    "a python literal": (f"b'{_PNG}'", "invalid_base64"),
    "a web address without its scheme": ("www.example.org/a.png", "invalid_base64"),
    "full-width letters": ("ＡＢＣＤ" * 9, "invalid_base64"),
    "emoji": ("🖼️" * 40, "invalid_base64"),
    "NUL": ("AAA\0" * 9, "invalid_base64"),
    "one character": ("A", "invalid_base64"),
    "hex": (png_flat(8, 8).hex() + "00" * (len(png_flat(8, 8)) % 2), "invalid_image"),
    "backslashes for slashes": ("http:\\\\127.0.0.1\\", "invalid_base64"),
    "a path": ("/etc/passwd", "invalid_base64"),
    "a path of the right length": ("../../../../etc/passwd.png!!", "invalid_base64"),
    "a link without slashes": ("http:127.0.0.1", "invalid_base64"),
    "an html picture": ('<img src="data:image/png;base64,AAAA">', "invalid_base64"),
    "nothing": ("", "invalid_image"),
    "base64 of base64": (base64.b64encode(_PNG.encode()).decode(), "invalid_image"),
    "base64 of text": (base64.b64encode(b"hello world").decode(), "invalid_image"),
    "data url without base64": ("data:image/png," + _PNG, "invalid_base64"),
    "data url, percent-encoded": ("data:image/png;base64,%69%56%42%4F", "invalid_base64"),
    "data url without a comma": ("data:image/png;base64" + _PNG, "invalid_base64"),
    "data url of base64 not last": ("data:image/png;base64;charset=x," + _PNG, "invalid_base64"),
    "data url of nothing": ("data:image/png;base64,", "invalid_image"),
    "data url, only the scheme": ("data:", "invalid_base64"),
    "data url of a png that says html": ("data:text/html;base64," + _PNG, ""),
    "data url of html": ("data:text/html;base64," + base64.b64encode(b"<html></html>").decode(), "invalid_image"),
    "data url of svg": ("data:image/svg+xml;base64," + base64.b64encode(b"<svg/>   ").decode(), "invalid_image"),
    "data url of a megabyte of parameters": ("data:image/png" + ";a=b" * 250_000 + ";base64," + _PNG, "invalid_base64"),
    "data url in a data url": ("data:image/png;base64,data:image/png;base64," + _PNG, "invalid_base64"),
    "a jpeg that says png": ("data:image/png;base64," + _JPEG, ""),
    "capitals": ("DATA:IMAGE/PNG;BASE64," + _PNG, ""),
}

CASES: list[Case] = (
    [
        Case("base64", name, lambda _, text=text: asked(text), 400 if code else 200, code)  # type: ignore[misc]
        for name, (text, code) in _TEXTS.items()
    ]
    + [
        Case("base64", "30 MB", _oversized, 413, "content_too_large"),
        *(
            Case(
                "base64",
                f"image is {json.dumps(value)[:20]}",
                lambda _, value=value: asked(value),
                400,
                "invalid_request",
            )  # type: ignore[misc]
            for value in (5, True, ["a"], {"url": "http://127.0.0.1/"}, 1.5)
        ),
        Case(
            "base64",
            "half of a surrogate pair",
            lambda _: Sent(b'{"question": "%b", "image": "\\ud83d"}' % QUESTION.encode()),
            400,
            "invalid_request",
        ),
    ]
)
