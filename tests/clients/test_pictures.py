"""Pictures as text, files without their last bytes, transparent ones, foreign formats: the pixels that a model got."""

import base64
import gzip
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.attacks.files import photo, saved
from tests.clients.asking import answered, ask, encoded, refused, sha256, sha_of, sha_of_picture, square
from tests.service.heic import heic

PHOTO = photo(80, 60)
PNG = saved(PHOTO, "PNG")
TEXT = encoded(PNG)
# Bytes of which every letter of either alphabet comes up
BMP = saved(Image.effect_noise((64, 64), 90).convert("RGB"), "BMP")

TAKEN: dict[str, Callable[[bytes], str]] = {
    "plain": encoded,
    "line ends": lambda data: base64.encodebytes(data).decode(),
    "windows line ends": lambda data: base64.encodebytes(data).decode().replace("\n", "\r\n"),
    "url-safe": lambda data: base64.urlsafe_b64encode(data).decode(),
    "unpadded": lambda data: encoded(data).rstrip("="),
    "url-safe and unpadded": lambda data: base64.urlsafe_b64encode(data).decode().rstrip("="),
    "blanks around": lambda data: f" \n\t{encoded(data)} \r\n",
    "data URL": lambda data: f"data:image/png;base64,{encoded(data)}",
    "data URL of octets": lambda data: f"data:application/octet-stream;base64,{encoded(data)}",
    "data URL of text": lambda data: f"data:text/plain;charset=utf-8;base64,{encoded(data)}",
    "data URL of nothing": lambda data: f"data:;base64,{encoded(data)}",
    "data URL in capitals": lambda data: f"DATA:IMAGE/PNG;BASE64,{encoded(data)}",
    "data URL with a name of 8,000": lambda data: f"data:image/png;name={'n' * 8000}.png;base64,{encoded(data)}",
    "data URL with blanks around": lambda data: f" \n data:image/png; base64 , {encoded(data)} \n",
    "data URL with line ends": lambda data: "data:image/png;base64," + base64.encodebytes(data).decode(),
}


@pytest.mark.parametrize("name", TAKEN)
def test_base64_that_clients_send(client: httpx.Client, name: str) -> None:
    for data in (PNG, BMP):
        answer = answered(ask(client, image=TAKEN[name](data)))
        assert sha_of(client, answer) == sha_of_picture(client, data)


REFUSED: dict[str, tuple[str, str]] = {
    "byte order mark": ("\ufeff" + TEXT, "it begins with a byte order mark (U+FEFF)"),
    "quotes": (f'"{TEXT}"', "it is in quotes: send what is between them"),
    "python": (repr(TEXT.encode()), "it is Python's notation of bytes (b'…')"),
    "path": ("/home/me/cat.png", "it looks like a file path"),
    "windows path": ("C:\\Users\\me\\cat.png", "it looks like a file path"),
    "file name": ("cat.jpeg", "it looks like a file path"),
    "web address": ("www.example.org/cat.png", "it looks like a web address without http:// or https://"),
    "html": ("<img src='cat.png'>", "it looks like HTML or XML"),
    "json": ('{"url": "cat"}', "it looks like JSON"),
    "plus that became a blank": (
        TEXT[:4] + " " + TEXT[5:],
        "character 5 is (U+0020 SPACE), which some forms make of +",
    ),
    "a letter of another alphabet": (TEXT[:9] + "é" + TEXT[10:], "character 10 is 'é' (U+00E9"),
    "one character too many": (TEXT.rstrip("=")[:101], "101 characters are one more than whole groups of 4"),
    "data URL without base64": ("data:image/png," + TEXT, "must end its head with ;base64"),
    "data URL of a head of 9,000": (f"data:image/png;name={'n' * 9000};base64,{TEXT}", "none in 8192 characters"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_base64_is_named(client: httpx.Client, name: str) -> None:
    image, message = REFUSED[name]
    told = refused(ask(client, image=image), "image")
    assert message in told and "length" not in told, told


def noisy() -> Image.Image:
    return Image.effect_noise((67, 49), 60).convert("RGB")


LACKING_THEIR_END: dict[str, tuple[str, int, dict[str, Any]]] = {  # kind, bytes missing, how it was saved
    "JPEG without FF D9": ("JPEG", 2, {}),
    "progressive JPEG without FF D9": ("JPEG", 2, {"progressive": True}),
    "JPEG without D9": ("JPEG", 1, {}),
    "PNG without IEND": ("PNG", 12, {}),
    "PNG without the end of IEND": ("PNG", 4, {}),
    "BMP without its last padding": ("BMP", 3, {}),  # rows of 201 bytes, and three of padding
}


@pytest.mark.parametrize("name", LACKING_THEIR_END)
def test_a_file_that_lacks_its_end_alone_is_taken(client: httpx.Client, name: str) -> None:
    kind, num_missing, options = LACKING_THEIR_END[name]
    whole = saved(noisy(), kind, **options)
    assert sha_of_picture(client, whole[:-num_missing]) == sha_of_picture(client, whole)
    for share in (0.5, 0.9, 0.99):
        told = refused(ask(client, image=encoded(whole[: int((len(whole) - 16) * share)])), "image")
        assert "cut off" in told, told


def sticker() -> Image.Image:
    """A red square over hidden green."""
    picture = Image.new("RGBA", (48, 48), (0, 200, 0, 0))
    picture.paste((200, 0, 0, 255), (12, 12, 36, 36))
    return picture


def shown_on(ground: tuple[int, int, int]) -> Image.Image:
    picture = Image.new("RGB", (48, 48), ground)
    picture.paste((200, 0, 0), (12, 12, 36, 36))
    return picture


def _palette() -> Image.Image:
    flat = Image.new("P", (48, 48), 0)
    flat.putpalette([0, 200, 0, 200, 0, 0])
    flat.paste(1, (12, 12, 36, 36))
    return flat


TRANSPARENT: dict[str, Callable[[], bytes]] = {
    "PNG of RGBA": lambda: saved(sticker(), "PNG"),
    "PNG of a palette": lambda: saved(_palette(), "PNG", transparency=0),
    "PNG of one clear colour": lambda: saved(sticker().convert("RGB"), "PNG", transparency=(0, 200, 0)),
    "GIF": lambda: saved(_palette(), "GIF", transparency=0),
    "WebP, lossless": lambda: saved(sticker(), "WEBP", lossless=True, exact=True),
    "TIFF": lambda: saved(sticker(), "TIFF"),
}


@pytest.mark.parametrize("name", TRANSPARENT)
def test_a_transparent_picture_shows_its_ground(client: httpx.Client, name: str) -> None:
    data = TRANSPARENT[name]()
    assert sha_of_picture(client, data) == sha256(square(shown_on((255, 255, 255))))
    assert sha_of_picture(client, data, raw=True) == sha256(square(shown_on((0, 200, 0)))), "as the reference: no alpha"


def test_black_shapes_of_grey_and_alpha_do_not_vanish(client: httpx.Client) -> None:
    shape = Image.new("LA", (48, 48), (0, 0))
    shape.paste((0, 255), (12, 12, 36, 36))
    wanted = Image.new("RGB", (48, 48), "white")
    wanted.paste((0, 0, 0), (12, 12, 36, 36))
    assert sha_of_picture(client, saved(shape, "PNG")) == sha256(square(wanted))


FOREIGN = {
    "an SVG drawing": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "a PDF document": b"%PDF-1.7\n",
    "a gzip file": gzip.compress(PNG),
    "an HTML page": b"<!doctype html><p>not found",
    "JSON": b'{"error": "not found"}',
    "a picture in base64, encoded once more": TEXT.encode(),
    "a video (MP4 or QuickTime)": b"\0\0\0\x18ftypmp42\0\0\0\0isommp42" + bytes(64),
    "a JPEG XL picture": b"\xff\x0a" + bytes(999),  # the base64 of a shorter one is a path, too
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_file_of_another_kind_is_named(client: httpx.Client, name: str) -> None:
    told = refused(ask(client, image=encoded(FOREIGN[name])), "image")
    assert f"it is {name}; allowed: PNG, JPEG, WEBP, GIF, BMP" in told, told


EXTRA = {
    "HEIC": lambda: heic(PHOTO),
    "AVIF": lambda: saved(PHOTO, "AVIF", quality=100, subsampling="4:4:4"),
    "TIFF": lambda: saved(PHOTO, "TIFF", compression="tiff_lzw"),
}


@pytest.mark.parametrize("name", EXTRA)
def test_the_extra_formats_are_read_where_they_are_installed(client: httpx.Client, name: str) -> None:
    sha = sha_of_picture(client, EXTRA[name]())
    assert sha is not None and (name != "TIFF" or sha == sha_of_picture(client, PNG))


def test_a_picture_may_join_a_talk_that_has_none(client: httpx.Client) -> None:
    first = answered(ask(client))
    assert (first["image"], first["usage"]["image_tokens"]) == (False, 0)
    talk = first["conversation_id"]
    second = answered(ask(client, conversation_id=talk, image=TEXT))
    assert second["image"] is True and sha_of(client, second) == sha256(square(PHOTO))
    told = refused(ask(client, conversation_id=talk, image=encoded(BMP)), "image")
    assert told.startswith("image: the conversation is about another picture")
    again = answered(ask(client, conversation_id=talk, image=encoded(saved(PHOTO, "BMP"))))
    assert again["image"] is True, "a lossless copy in another format is the same picture"
