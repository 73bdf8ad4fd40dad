"""Bodies as JSON and as forms, and what can be wrong with them."""

import json
from typing import Any

import pytest

from service.http.schemas.chat import ChatRequest
from service.http.schemas.paint import PaintRequest
from tests.service.web import Service, assert_error, encoded, picture_bytes

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def service(recounted_service: Service) -> Service:
    return recounted_service


async def test_a_form_with_a_file_is_the_same_request(service: Service) -> None:
    response = await service.client.post(
        "/chat",
        data={"question": "echo form", "seed": "7", "num_beams": "1", "stream": "false"},
        files={"image": ("cat.png", picture_bytes(), "image/png")},
    )
    assert response.status_code == 200, response.text
    assert response.json()["answer"] == "form" and response.json()["seed"] == 7


async def test_forms_that_are_wrong_are_refused(service: Service) -> None:
    def part(name: str, value: str) -> tuple[str, tuple[None, str]]:
        return name, (None, value)

    post = service.client.post
    assert_error(
        await post("/chat", files=[part("question", "q"), part("question", "q")]), 400, "invalid_request", "question"
    )
    assert_error(await post("/chat", files=[part("question", "q"), part("seed", "x")]), 400, "invalid_request", "seed")
    both = [part("question", "q"), part("image", encoded()), ("image", ("a.png", picture_bytes()))]
    assert_error(await post("/chat", files=both), 400, "invalid_request", "image")
    wrong = [part("question", "q"), ("mask", ("a.png", picture_bytes()))]
    assert_error(await post("/chat", files=wrong), 400, "invalid_request", "mask")
    headers = {"content-type": "multipart/form-data"}
    assert_error(await post("/chat", content=b"x", headers=headers), 400, "invalid_request")
    headers = {"content-type": "multipart/form-data; boundary=b; charset=punycode"}
    body = b'--b\r\nContent-Disposition: form-data; name="question"\r\n\r\n\xff\xfe--\r\n--b--\r\n'
    assert (await post("/chat", content=body, headers=headers)).status_code == 400
    assert await service.accounting() == {}


JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"{", None),
        (b"[]", None),
        (b"null", None),
        (b'"x"', None),
        (b'{"question": "q"', None),
        (b"{}", "question"),
        (b'{"question": ""}', "question"),
        (b'{"question": 5}', "question"),
        (b'{"question": null}', "question"),
        (b'{"question": "q", "colour": 1}', "colour"),
        (b'{"question": "q", "image": 5}', "image"),
        (b'{"question": "q", "stream": "yes"}', "stream"),
        (b'{"question": "q", "num_beams": 0}', "num_beams"),
        (b'{"question": "q", "num_beams": 9}', "num_beams"),
        (b'{"question": "q", "num_beams": "3"}', "num_beams"),
        (b'{"question": "q", "max_new_tokens": 1}', "max_new_tokens"),
        (b'{"question": "q", "max_new_tokens": 1e99}', "max_new_tokens"),
        (b'{"question": "q", "max_new_tokens": 64.5}', "max_new_tokens"),
        (b'{"question": "q", "do_sample": true, "temperature": -0.1}', "temperature"),
        (b'{"question": "q", "do_sample": true, "top_k": -2}', "top_k"),
        (b'{"question": "q", "length_penalty": 11}', "length_penalty"),
        (b'{"question": "q", "temperature": NaN}', "temperature"),
        (b'{"question": "q", "temperature": Infinity}', "temperature"),
        (b'{"question": "q", "temperature": 1e999}', "temperature"),
        (b'{"question": "q", "do_sample": true, "top_p": 1.5}', "top_p"),
        (b'{"question": "q", "top_p": "1.5"}', "top_p"),
        (b'{"question": "q", "seed": -1}', "seed"),
        (b'{"question": "q", "seed": ' + b"9" * 5000 + b"}", None),
        (b'{"question": "q", "do_sample": true, "num_beams": 2}', None),
        (b'{"question": "a\\u0000b"}', "question"),
        (b'{"question": "\\ud800"}', None),
        (b'{"question": "\xff\xfe"}', None),
        (b'{"question": "' + b"x" * 8193 + b'"}', "question"),
        (b'{"question": "q", "conversation_id": "' + b"x" * 65 + b'"}', "conversation_id"),
        (b"[" * 10_000, None),
        (b'{"a":' * 10_000, None),
    ],
)
async def test_bodies_that_are_wrong(service: Service, body: bytes, param: str | None) -> None:
    error = assert_error(await service.client.post("/chat", content=body, headers=JSON), 400, "invalid_request", param)
    assert error["type"] == "invalid_request_error" and len(error["message"]) < 400
    assert await service.accounting() == {}


async def test_a_body_in_a_million_pieces_is_read(service: Service) -> None:
    body = json.dumps({"question": "echo pieces", "image": encoded()}).encode()

    async def pieces() -> Any:
        for byte in body:
            yield bytes([byte])

    response = await service.client.post("/chat", content=pieces(), headers=JSON)
    assert response.json()["answer"] == "pieces"


OPTIONAL = sorted(set(ChatRequest.model_fields) - {"question"})


async def test_null_is_absent(service: Service) -> None:
    answer = await service.client.post("/chat", json={"question": "echo null", **dict.fromkeys(OPTIONAL)})
    assert (answer.status_code, answer.json()["answer"]) == (200, "null")
    painted = await service.client.post("/paint", json={**dict.fromkeys(PaintRequest.model_fields), "prompt": "a"})
    assert painted.status_code == 200 and len(painted.json()["data"]) == 1


@pytest.mark.parametrize(
    ("number", "seed"), [("64.0", 64), ("1e2", 100), ("1.5E1", 15), ("9007199254740991.0", 2**53 - 1)]
)
async def test_whole_numbers_may_be_written_as_others_are(service: Service, number: str, seed: int) -> None:
    body = f'{{"question": "echo x", "seed": {number}}}'.encode()
    assert (await service.client.post("/chat", content=body, headers=JSON)).json()["seed"] == seed
    form = await service.client.post("/chat", files={"question": (None, "echo x"), "seed": (None, number)})
    assert form.json()["seed"] == seed


async def test_unknown_fields_that_are_taken_are_not_taken_by_the_hundred(service: Service) -> None:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "echo x"}]}
    many = await service.client.post("/v1/chat/completions", json={**body, **{f"field{i}": i for i in range(254)}})
    assert many.status_code == 200
    more = await service.client.post("/v1/chat/completions", json={**body, **{f"field{i}": i for i in range(255)}})
    assert assert_error(more, 400, "invalid_request")["message"] == "body: has 257 fields, at most 256 are read"
