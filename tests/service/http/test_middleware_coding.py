"""Compressed bodies, and other forms of Unicode, to the server of `viscpm api`."""

import gzip
import json
import zlib
from collections.abc import Callable

import pytest

from service.core.content_codings import CODINGS
from service.core.settings import Settings
from tests.service.web import Service, assert_error, encoded, picture_bytes, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def service(recounted_service: Service) -> Service:
    return recounted_service


BODY = json.dumps({"question": "echo packed", "image": encoded()}).encode()
JSON = {"content-type": "application/json"}


def bare(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("coding", "pack"),
    [("gzip", gzip.compress), ("X-GZip", gzip.compress), ("deflate", zlib.compress), ("deflate", bare)],
)
@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_compressed_body_is_read(
    service: Service, coding: str, pack: Callable[[bytes], bytes], is_chunked: bool
) -> None:
    headers = {**JSON, "content-encoding": coding}

    async def pieces():  # type: ignore[no-untyped-def]
        for byte in pack(BODY):
            yield bytes([byte])

    sent = pieces() if is_chunked else pack(BODY)
    answer = await service.client.post("/chat", content=sent, headers=headers)
    assert (answer.status_code, answer.json()["answer"]) == (200, "packed")
    again = {"question": "echo on", "conversation_id": answer.json()["conversation_id"]}
    assert (await service.client.post("/chat", json=again, headers={"content-encoding": "identity"})).status_code == 200


async def test_a_compressed_form_is_read(service: Service) -> None:
    request = service.client.build_request(
        "POST", "/chat", data={"question": "echo form"}, files={"image": ("a.png", picture_bytes(), "image/png")}
    )
    headers = {"content-type": request.headers["content-type"], "content-encoding": "gzip"}
    answer = await service.client.post("/chat", content=gzip.compress(await request.aread()), headers=headers)
    assert answer.json()["answer"] == "form"


@pytest.mark.parametrize("coding", ["br", "compress", "gzip, gzip", "none-such", "zstd"])
async def test_other_codings_are_refused_by_name(service: Service, coding: str) -> None:
    response = await service.client.post("/chat", content=BODY, headers={**JSON, "content-encoding": coding})
    if coding in CODINGS:
        assert_error(response, 400, "invalid_request")
        return
    error = assert_error(response, 415, "unsupported_media_type")
    assert coding in error["message"] and "gzip, deflate" in error["message"]
    live = await service.client.get("/health/live", headers={"content-encoding": coding})
    assert live.status_code == 200, "there is no body to read"


@pytest.mark.slow
async def test_a_bomb_ends_at_the_cap(settings: Settings) -> None:
    limit_bytes = 1 << 20
    async with serving(settings.model_copy(update={"max_body_bytes": limit_bytes})) as service:
        bombs = {"gzip": gzip.compress(bytes(64 << 20)), "deflate": zlib.compress(bytes(64 << 20))}
        for coding, bomb in bombs.items():
            response = await service.client.post("/chat", content=bomb, headers={**JSON, "content-encoding": coding})
            error = assert_error(response, 413, "content_too_large")
            told_bytes = int(error["message"].split()[3])
            assert limit_bytes < told_bytes <= limit_bytes + (256 << 10)
        padded = gzip.compress(b"") * (limit_bytes // 20 + 1)  # nothing in much
        response = await service.client.post("/chat", content=padded, headers={**JSON, "content-encoding": "gzip"})
        assert response.status_code in (400, 413)
        exact = BODY + b" " * (limit_bytes - len(BODY))
        response = await service.client.post(
            "/paint", content=gzip.compress(exact), headers={**JSON, "content-encoding": "gzip"}
        )
        assert_error(response, 400, "invalid_request", "question")


@pytest.mark.parametrize("packed", [BODY, gzip.compress(BODY)[:-1], gzip.compress(BODY) + b"x", b"", b"\x1f"])
async def test_what_is_not_of_its_coding_is_refused(service: Service, packed: bytes) -> None:
    response = await service.client.post("/chat", content=packed, headers={**JSON, "content-encoding": "gzip"})
    assert "gzip" in assert_error(response, 400, "invalid_request")["message"]
    assert await service.accounting() == {}


async def test_a_mark_before_the_body_is_passed_over(service: Service) -> None:
    answer = await service.client.post("/chat", content=b"\xef\xbb\xbf" + BODY, headers=JSON)
    assert answer.json()["answer"] == "packed"


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
async def test_other_forms_of_unicode_are_refused_by_name(service: Service, codec: str) -> None:
    response = await service.client.post("/chat", content=BODY.decode().encode(codec), headers=JSON)
    name = codec[:6].upper()
    assert assert_error(response, 400, "invalid_request")["message"] == f"body: is in {name}, UTF-8 expected"
