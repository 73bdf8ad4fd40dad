"""Text that is a picture's bytes in any of base64's usual shapes, and text that is not: named, with its place."""

import base64
import os

import pytest

from service.core.errors import InvalidBase64, InvalidImage
from service.image_input.base64_text import MAX_HEAD_CHARS, decode_base64

DATA = bytes(range(256)) * 5 + b"\xfb\xef\xff\xff"
TEXT = base64.b64encode(DATA).decode()
URL_SAFE = base64.urlsafe_b64encode(DATA).decode()


def test_lengths_with_and_without_padding() -> None:
    for length in range(1, 70):
        data = b"\x89" + os.urandom(length - 1)
        for text in (base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode()):
            assert decode_base64(text) == decode_base64(text.rstrip("=")) == data


@pytest.mark.parametrize(
    "text",
    [
        URL_SAFE,
        base64.encodebytes(DATA).decode(),
        base64.encodebytes(DATA).decode().replace("\n", "\r\n"),
        f" \t\r\n{TEXT} \n",
        f"data:image/png;base64,{TEXT}",
        f"data:;base64,{TEXT}",
        f"data:application/octet-stream;base64,{TEXT}",
        f"data:text/html;base64,{TEXT}",
        f"DATA:IMAGE/JPEG;CHARSET=UTF-8;BASE64,{TEXT}",
        f" data: image/png ; base64 , {TEXT}\n",
        f"data:image/png;name={'n' * 8000}.png;base64,{TEXT}",
        f"data:image/png;base64,{URL_SAFE.rstrip('=')}",
        f"data:image/png;name=a%20b.png;base64,{base64.encodebytes(DATA).decode()}",
    ],
)
def test_shapes_that_clients_send(text: str) -> None:
    assert decode_base64(text) == DATA


@pytest.mark.slow
def test_large_texts_are_decoded_in_pieces() -> None:
    data = os.urandom(3 * 2**20 + 5)
    text = base64.b64encode(data).decode()
    assert decode_base64(text) == decode_base64(base64.encodebytes(data).decode()) == data
    middle = 2**20 - 2
    with pytest.raises(InvalidBase64, match=f"character {middle + 1} is '='"):
        decode_base64(text[:middle] + "==" + text[middle + 2 :])
    with pytest.raises(InvalidBase64, match=rf"character {2**21 + 1} is '\*' \(U\+002A ASTERISK\)"):
        decode_base64(text[: 2**21] + "*" + text[2**21 + 1 :])


WRONG = {
    "AAAA AAAA": r"character 5 is \(U\+0020 SPACE\), which some forms make of \+",
    "AAAA\tAAAA": r"character 5 is \(U\+0009\)",
    "AA\0A": r"character 3 is \(U\+0000\)",
    "图片图片": r"character 1 is '图' \(U\+56FE CJK UNIFIED IDEOGRAPH-56FE\)",
    "AAA\ud83d": r"character 4 is \(U\+D83D\)",
    "  AAAA!AAA": r"character 7 is '!' \(U\+0021 EXCLAMATION MARK\)",
    "data:image/png;base64,AA.A": r"character 25 is '\.' \(U\+002E FULL STOP\)",
    "AA==AAAA": r"character 3 is '='",
    "====": r"character 1 is '='",
    "A": "1 characters are one more than whole groups of 4",
    "A===": "1 characters are one more than whole groups of 4",
    "AAAA=": "4 characters are followed by 1 =, allowed: 0 or none",
    "AA=": "2 characters are followed by 1 =, allowed: 2 or none",
    "\ufeffAAAA": r"byte order mark \(U\+FEFF\)",
    "b'AAAA'": "Python's notation of bytes",
    'b"AAAA"': "Python's notation of bytes",
    '"AAAA"': "in quotes",
    "“AAAA”": "in quotes",
    "/etc/passwd": "a file path; got '/etc/passwd'",
    "/home/me/cat.png": "a file path",
    "C:\\Users\\me\\cat.png": "a file path",
    "../../cat": "a file path",
    "~/cat": "a file path",
    "images/cat.JPEG": "a file path",
    "cat.png": "a file path",
    "www.example.org/cat.png": "a web address without http:// or https://",
    "http:127.0.0.1": "a web address without ://",
    " https://example.org/cat.png": "a URL with blanks in front",
    "blob:https://example.org/1": "a blob: URL",
    "<img src=x>": "HTML or XML",
    '{"url": "x"}': "JSON",
    "iVBORw0KGgo%3D": "percent-encoded",
    "data:image/png;base64,%69%56": "percent-encoded",
    "data:": "a comma before its data, got none",
    f"data:image/png;name={'n' * MAX_HEAD_CHARS};base64,AAAA": "got none in 8192 characters",
    "data:image/png,AAAA": "must end its head with ;base64, got 'data:image/png' before the comma",
    "data:image/png;base64;charset=x,AAAA": "must end its head with ;base64",
    "data:image/png;base64,data:image/png;base64,AAAA": "character 27 is ':'",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_named_with_its_place_or_by_its_looks(text: str) -> None:
    with pytest.raises(InvalidBase64, match=WRONG[text]) as caught:
        decode_base64(text)
    assert caught.value.param == "image" and caught.value.message.isprintable()
    caught.value.message.encode()


def test_what_a_jpeg_begins_with_is_no_path() -> None:
    jpeg = base64.b64encode(b"\xff\xd8\xff\xe0" + bytes(30)).decode()
    assert jpeg.startswith("/9j/") and decode_base64(jpeg)[:2] == b"\xff\xd8"


@pytest.mark.parametrize("text", ["", "  \n", "data:image/png;base64,", "data:image/png;base64, "])
def test_nothing_is_no_picture(text: str) -> None:
    with pytest.raises(InvalidImage, match="empty"):
        decode_base64(text)
