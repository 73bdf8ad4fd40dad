"""Compressed bodies: decoded under the byte cap while they are read, or refused by the coding's name."""

import gzip
import importlib
import json
import zlib
from collections.abc import Callable

import httpx
import pytest

from service.core.content_codings import CODINGS
from service.core.settings import Settings
from tests.clients.asking import IMAGE, JSON, QUESTION, answered, encoded, refused
from tests.service.web import picture_bytes
from tests.service.wire import form

ASKED = json.dumps({"question": "echo 压缩", "image": encoded(picture_bytes())}).encode()
FORM = form((QUESTION, "", "echo 压缩".encode()), (IMAGE, "image/png", picture_bytes()))
FORM_TYPE = {"content-type": "multipart/form-data; boundary=X"}


def bare(data: bytes) -> bytes:
    """Deflate without zlib's frame, as some clients have it."""
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def zstd(data: bytes) -> bytes:
    packed: bytes = importlib.import_module("compression.zstd").compress(data)
    return packed


PACKED: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "gzip in two members": ("gzip", lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:])),
    "x-gzip": ("x-gzip", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "deflate, bare": ("deflate", bare),
    "identity": ("identity", bytes),
    **({"zstd": ("zstd", zstd)} if "zstd" in CODINGS else {}),
}


@pytest.mark.parametrize("name", PACKED)
def test_a_compressed_body_is_read(client: httpx.Client, name: str) -> None:
    coding, pack = PACKED[name]
    for body, media in ((ASKED, JSON), (FORM, FORM_TYPE)):
        answer = answered(client.post("/chat", content=pack(body), headers={**media, "content-encoding": coding}))
        assert (answer["answer"], answer["image"]) == ("压缩", True)


@pytest.mark.parametrize("coding", ["br", "compress", "gzip, br", "none-such"])
def test_another_coding_is_415_by_name(client: httpx.Client, coding: str) -> None:
    response = client.post("/chat", content=gzip.compress(ASKED), headers={**JSON, "content-encoding": coding})
    told = refused(response, None, status=415)
    assert coding.rpartition(" ")[2] in told and "gzip, deflate" in told


@pytest.mark.parametrize("name", ["gzip", "deflate"])
def test_a_bomb_ends_at_the_cap(client: httpx.Client, name: str) -> None:
    coding, pack = PACKED[name]
    response = client.post("/chat", content=pack(bytes(64 << 20)), headers={**JSON, "content-encoding": coding})
    told_bytes, limit_bytes = int(refused(response, None, status=413).split()[3]), Settings().max_body_bytes
    assert limit_bytes < told_bytes <= limit_bytes + (256 << 10), "it was unpacked further than it was read"


def test_a_body_that_is_not_of_its_coding_is_refused(client: httpx.Client) -> None:
    for body in (ASKED, gzip.compress(ASKED)[:-1], b""):
        assert "gzip" in refused(client.post("/chat", content=body, headers={**JSON, "content-encoding": "gzip"}), None)
