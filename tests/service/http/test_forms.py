"""Forms of browsers, shells and libraries, as bytes, to the server of `viscpm api`."""

import base64
import random
from typing import Any

import pytest

from tests.service.web import Service, assert_error, encoded, picture_bytes
from tests.service.wire import body_of, form, post, said

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def service(recounted_service: Service) -> Service:
    return recounted_service


PICTURE = picture_bytes(8, 8, (0, 0, 255))
TEXT = "echo 图片里有什么？"
QUESTION = 'form-data; name="question"'
IMAGE = 'form-data; name="image"'


async def answered(service: Service, body: bytes, charset: str = "") -> dict[str, Any]:
    media = b"multipart/form-data; boundary=X" + (f"; charset={charset}".encode() if charset else b"")
    answer: dict[str, Any] = body_of(await said(service.url, post("/chat", body, media=media)))
    return answer


async def sha_of(service: Service, answer: dict[str, Any]) -> Any:
    return (await service.client.get(f"/conversations/{answer['conversation_id']}")).json()["image_sha256"]


@pytest.mark.parametrize(
    ("codec", "label", "text"),
    [
        ("gbk", "gbk", "图片里有什么？"),
        ("gbk", "GB2312", "图片里有什么？"),
        ("gb18030", "gb18030", "𠮷野家"),
        ("big5", "big5", "圖片裡有什麼？"),
        ("shift_jis", "Shift_JIS", "写真には何がありますか"),
        ("euc_kr", "euc-kr", "사진에 무엇이 있습니까"),
        ("latin-1", "ISO-8859-1", "Où est le café ?"),
        ("cp1252", "windows-1252", "“où” €"),
        ("utf-8", "utf-8", "图🍎"),
    ],
)
async def test_a_charset_that_is_named_is_used(service: Service, codec: str, label: str, text: str) -> None:
    content = f"echo {text}".encode(codec)
    by_part = await answered(service, form((QUESTION, f"text/plain; charset={label}", content)))
    by_field = await answered(
        service, form((QUESTION, "", content), ('form-data; name="_charset_"', "", label.encode()))
    )
    by_body = await answered(service, form((QUESTION, "", content)), charset=label)
    assert [one["answer"] for one in (by_part, by_field, by_body)] == [text] * 3
    kept = (await service.client.get(f"/conversations/{by_part['conversation_id']}")).json()["turns"][0]
    assert kept["question"] == f"echo {text}"


async def test_the_nearest_name_of_a_charset_counts(service: Service) -> None:
    body = form(
        (QUESTION, "text/plain; charset=big5", "echo 圖".encode("big5")), ('form-data; name="_charset_"', "", b"gbk")
    )
    assert (await answered(service, body, charset="latin-1"))["answer"] == "圖"


@pytest.mark.parametrize("codec", ["gbk", "big5", "shift_jis", "latin-1"])
async def test_text_without_a_charset_is_utf_8_or_refused(service: Service, codec: str) -> None:
    content = "echo é".encode(codec) if codec == "latin-1" else "echo 図".encode(codec, "replace") + "日".encode(codec)
    error = (await answered(service, form((QUESTION, "", content))))["error"]
    first = next(i for i, byte in enumerate(content) if byte > 0x7F)
    assert error["param"] == "question" and error["code"] == "invalid_request"
    assert error["message"].startswith(f"question: UTF-8 expected, and byte {first} (0x{content[first]:02x})")
    assert await service.accounting() == {}


@pytest.mark.parametrize("label", ["punycode", "utf-7", "unicode_escape", "base64", "none-such", "idna", "utf-16"])
async def test_a_charset_that_is_none_is_named(service: Service, label: str) -> None:
    error = (await answered(service, form((QUESTION, f"text/plain; charset={label}", b"echo \xe9"))))["error"]
    assert error["param"] == "question" and repr(label) in error["message"] and "UTF-8 expected" in error["message"]


async def test_ascii_needs_no_charset_that_is_known(service: Service) -> None:
    assert (await answered(service, form((QUESTION, "text/plain; charset=x-none", b"echo x"))))["answer"] == "x"


async def test_an_empty_file_with_a_name_was_meant(service: Service) -> None:
    answer = await answered(service, form((QUESTION, "", b"echo x"), (IMAGE + '; filename="a.png"', "image/png", b"")))
    assert (answer["error"]["code"], answer["error"]["param"]) == ("invalid_image", "image")


async def test_text_that_is_not_of_its_charset_is_refused(service: Service) -> None:
    error = (await answered(service, form((QUESTION, "text/plain; charset=gbk", b"echo \xff"))))["error"]
    assert error["param"] == "question" and "GB18030 expected, and byte 5 (0xff)" in error["message"]


@pytest.mark.parametrize(
    ("disposition", "media"),
    [
        (IMAGE, ""),
        (IMAGE, "image/png"),
        (IMAGE, "application/octet-stream"),
        (IMAGE, "text/plain"),
        (IMAGE, "application/json"),
        (IMAGE + "; filename*=UTF-8''%E7%BA%A2.png", "image/png"),
        (IMAGE + "; filename*=UTF-8''%E7%BA%A2.png", ""),
        (IMAGE + '; filename="a.png"', ""),
        (IMAGE + '; filename="a.png"', "text/plain"),
        (IMAGE + '; filename=""', "image/png"),
        ("form-data; name=image; filename=a.png", "image/x-anything"),
    ],
)
async def test_a_picture_is_one_however_it_is_labelled(service: Service, disposition: str, media: str) -> None:
    plain = (await service.ask("echo x", image=base64.b64encode(PICTURE).decode())).json()
    answer = await answered(service, form((QUESTION, "", b"echo x"), (disposition, media, PICTURE)))
    assert answer["answer"] == "x", answer
    assert await sha_of(service, answer) == await sha_of(service, plain)


@pytest.mark.parametrize("media", ["", "text/plain"])
@pytest.mark.parametrize("as_file", [False, True])
async def test_text_in_the_place_of_a_picture_is_base64(service: Service, media: str, as_file: bool) -> None:
    if as_file and not media:
        media = "text/plain; charset=us-ascii"
    disposition = IMAGE + '; filename="a.b64"' if as_file else IMAGE
    answer = await answered(service, form((QUESTION, "", b"echo x"), (disposition, media, encoded().encode())))
    assert answer["answer"] == "x" and len(await sha_of(service, answer)) == 64


@pytest.mark.parametrize("kind", ["JPEG", "GIF", "WEBP", "BMP", "TIFF"])
async def test_pictures_are_known_by_their_bytes(service: Service, kind: str) -> None:
    answer = await answered(service, form((QUESTION, "", b"echo x"), (IMAGE, "", picture_bytes(kind=kind))))
    if kind == "TIFF":  # known, and read or refused as a picture
        assert answer.get("answer") == "x" or answer["error"]["code"] == "invalid_image"
    else:
        assert answer["answer"] == "x" and len(await sha_of(service, answer)) == 64


async def test_what_nobody_filled_in_is_absent(service: Service) -> None:
    empty = [
        (f'form-data; name="{name}"', "", b"") for name in ("conversation_id", "seed", "num_beams", "stream", "top_p")
    ]
    file_input = (IMAGE + '; filename=""', "application/octet-stream", b"")
    answer = await answered(service, form((QUESTION, "", b"echo x"), file_input, *empty))
    assert answer["answer"] == "x" and await sha_of(service, answer) is None
    assert_error_of(await answered(service, form((QUESTION, "", b""), file_input)), "question")


def assert_error_of(answer: dict[str, Any], param: str | None) -> None:
    assert (answer["error"]["code"], answer["error"]["param"]) == ("invalid_request", param), answer


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (form(*[(f'form-data; name="f{i}"', "", b"1") for i in range(33)]), None),
        (form(("form-data", "", b"x")), None),
        (form(("", "", b"x")), None),
        (form((QUESTION, "", b"q"), ('form-data; name="mask"; filename="a"', "", b"x")), "mask"),
        (form((QUESTION, "", b"q"), ('form-data; name="mask"', "", b"")), None),
        (form((QUESTION, "", b"q"), (IMAGE, "", PICTURE), (IMAGE, "", PICTURE)), "image"),
        (b"--Y\r\n\r\n--Y--\r\n", None),
        (b"", "question"),
    ],
)
async def test_forms_that_are_none(service: Service, body: bytes, param: str | None) -> None:
    answer = await answered(service, body)
    if b'name="mask"\r\n\r\n\r\n' in body:
        assert "error" not in answer or answer["error"]["param"] != "mask"
        return
    assert_error_of(answer, param)


async def test_a_form_needs_its_boundary(service: Service) -> None:
    for media in ("multipart/form-data", "multipart/form-data; boundary="):
        response = await service.client.post("/chat", content=b"x", headers={"content-type": media})
        assert "boundary" in assert_error(response, 400, "invalid_request")["message"]


_NAMES = ("question", "image", "seed", "stream", "_charset_", "other", "", "\u56fe", 'a"b')
_FILES = ("", '; filename="a"', '; filename=""', "; filename*=UTF-8''%ff", "; filename*=x")
_MEDIA = (
    "",
    "text/plain; charset=gbk",
    "text/plain; charset=utf-7",
    "image/png",
    "; charset=\0",
    "charset",
    "\u00e9;=",
)
_CONTENTS = (PICTURE, PICTURE[:40], b"gbk", b"1e2", b"--X", b"\r\n--X--", b"\xff\xfe", b"", b"\0")


@pytest.mark.slow
async def test_no_form_breaks_or_holds_the_service(service: Service) -> None:
    made = random.Random(17)
    for _ in range(200):
        parts = [
            (
                f'form-data; name="{made.choice(_NAMES)}"{made.choice(_FILES)}',
                made.choice(_MEDIA),
                made.choice(_CONTENTS),
            )
            for _ in range(made.randrange(5))
        ]
        body = form(('form-data; name="mask"', "", b"1"), *parts)
        answer = await answered(service, body, made.choice(("", "big5", "none", "utf-16")))
        assert answer["error"]["code"] == "invalid_request", (answer, body)


async def test_an_upload_is_taken_as_its_bytes_and_its_fields_as_text(service: Service) -> None:
    async def uploaded(*parts: tuple[str, str, bytes]) -> dict[str, Any]:
        media = b"multipart/form-data; boundary=X"
        answer: dict[str, Any] = body_of(await said(service.url, post("/v1/files", form(*parts), media=media)))
        return answer

    purpose = ('form-data; name="purpose"', "", b"batch")
    file = 'form-data; name="file"; filename="请求.jsonl"'
    kept = await uploaded(purpose, (file, "application/octet-stream", PICTURE), ('form-data; name="x"', "", b""))
    assert (kept["filename"], kept["bytes"]) == ("请求.jsonl", len(PICTURE))
    read = await service.client.get(f"/v1/files/{kept['id']}/content")
    assert read.content == PICTURE
    unnamed = await uploaded(purpose, ('form-data; name="file"', "", b"{}"))
    assert (unnamed["filename"], unnamed["bytes"]) == ("", 2)
    wrong = {
        "file": [purpose],
        "purpose": [purpose, purpose, (file, "", b"x")],
        "other": [purpose, (file, "", b"x"), ('form-data; name="other"; filename="a"', "", b"x")],
    }
    for param, parts in wrong.items():
        error = (await uploaded(*parts))["error"]
        assert (error["code"], error["param"]) == ("invalid_request", param), error
