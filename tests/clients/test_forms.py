"""Forms of browsers, shells and libraries: the charset of their texts, and a picture under any label."""

from typing import Any

import httpx
import pytest
from PIL import Image

from tests.clients.asking import IMAGE, QUESTION, answered, encoded, refused, sha256, sha_of, square
from tests.service.web import picture_bytes
from tests.service.wire import form

BLUE = (0, 0, 255)
PICTURE = picture_bytes(8, 8, BLUE)
QUESTION_PART = (QUESTION, "", b"echo x")
Part = tuple[str, str, bytes]


def send(client: httpx.Client, *parts: Part, media: str = "multipart/form-data; boundary=X") -> httpx.Response:
    return client.post("/chat", content=form(*parts), headers={"content-type": media})


TEXTS = {
    "gbk": ("gbk", "图片里有什么？"),
    "GB18030": ("gb18030", "𠮷野家"),
    "big5": ("big5", "圖片裡有什麼？"),
    "Shift_JIS": ("shift_jis", "写真には何がありますか"),
    "ISO-8859-1": ("latin-1", "Où est le café ?"),
    "utf-8": ("utf-8", "图🍎"),
}


@pytest.mark.parametrize("label", TEXTS)
@pytest.mark.parametrize("named", ["by the part", "by _charset_", "by the body"])
def test_text_is_read_in_the_charset_that_is_named(client: httpx.Client, label: str, named: str) -> None:
    codec, text = TEXTS[label]
    content = f"echo {text}".encode(codec)
    parts: list[Part] = [(QUESTION, f"text/plain; charset={label}" if named == "by the part" else "", content)]
    if named == "by _charset_":
        parts.append(('form-data; name="_charset_"', "", label.encode()))
    media = "multipart/form-data; boundary=X" + (f"; charset={label}" if named == "by the body" else "")
    answer = answered(send(client, *parts, media=media))
    assert answer["answer"] == text
    kept = client.get(f"/conversations/{answer['conversation_id']}").json()["turns"][0]
    assert kept["question"] == f"echo {text}"


@pytest.mark.parametrize("codec", ["gbk", "big5", "shift_jis", "latin-1"])
def test_text_that_is_not_utf_8_and_names_no_charset_is_refused(client: httpx.Client, codec: str) -> None:
    content = ("echo " + ("é" if codec == "latin-1" else "日")).encode(codec)
    told = refused(send(client, (QUESTION, "", content)), "question")
    assert told.startswith(f"question: UTF-8 expected, and byte 5 (0x{content[5]:02x}) is not of it")


LABELS: dict[str, tuple[str, str]] = {
    "no name, no type": (IMAGE, ""),
    "no name, text/plain": (IMAGE, "text/plain"),
    "no name, octet-stream": (IMAGE, "application/octet-stream"),
    "filename* alone": (IMAGE + "; filename*=UTF-8''%E7%BA%A2.png", ""),
    "filename* and a type": (IMAGE + "; filename*=UTF-8''%E7%BA%A2.png", "image/png"),
    "a name, another type": (IMAGE + '; filename="a.txt"', "text/plain"),
    "an empty name": (IMAGE + '; filename=""', "image/jpeg"),
    "bare words": ("form-data; name=image; filename=a.png", "image/x-anything"),
}


@pytest.mark.parametrize("label", LABELS)
def test_a_picture_is_one_by_its_bytes(client: httpx.Client, label: str) -> None:
    answer = answered(send(client, QUESTION_PART, (*LABELS[label], PICTURE)))
    assert answer["image"] is True and sha_of(client, answer) == _blue()


@pytest.mark.parametrize("disposition", [IMAGE, IMAGE + '; filename="a.b64"'])
def test_text_in_its_place_is_base64(client: httpx.Client, disposition: str) -> None:
    answer = answered(send(client, QUESTION_PART, (disposition, "text/plain", encoded(PICTURE).encode())))
    assert sha_of(client, answer) == _blue()


def _blue() -> str:
    return sha256(square(Image.new("RGB", (8, 8), BLUE)))


def test_what_nobody_filled_in_is_absent(client: httpx.Client) -> None:
    names = ("conversation_id", "seed", "num_beams", "stream", "top_p", "max_new_tokens")
    empty: list[Part] = [(f'form-data; name="{name}"', "", b"") for name in names]
    no_file = (IMAGE + '; filename=""', "application/octet-stream", b"")
    answer = answered(send(client, QUESTION_PART, no_file, *empty))
    assert (answer["answer"], answer["image"]) == ("x", False)


def test_an_empty_file_that_has_a_name_was_meant(client: httpx.Client) -> None:
    assert refused(send(client, QUESTION_PART, (IMAGE + '; filename="a.png"', "image/png", b"")), "image")


@pytest.mark.parametrize("value", [b"64.0", b"1e2", b"64"])
def test_whole_numbers_of_forms(client: httpx.Client, value: bytes) -> None:
    assert answered(send(client, QUESTION_PART, ('form-data; name="seed"', "", value)))["seed"] == int(float(value))


def test_what_dart_and_dio_send(client: httpx.Client) -> None:
    """Lower-case head names, a boundary of dashes and dots, a type behind each text."""
    boundary = "--dio-boundary-0123456789.abc"
    lines: list[Any] = [
        f"--{boundary}",
        'content-disposition: form-data; name="question"',
        "content-type: text/plain; charset=utf-8",
        "content-transfer-encoding: binary",
        "",
        "echo 镖",
        f"--{boundary}",
        'content-disposition: form-data; name="image"; filename="图.png"',
        "content-type: application/octet-stream",
        "",
    ]
    body = "\r\n".join([*lines, ""]).encode() + PICTURE + f"\r\n--{boundary}--\r\n".encode()
    media = {"content-type": f"multipart/form-data; boundary={boundary}"}
    answer = answered(client.post("/chat", content=body, headers=media))
    assert answer["answer"] == "镖" and sha_of(client, answer) == _blue()
