"""What tests of clients ask, and the digests of the pixels that a model got."""

import base64
import hashlib
from typing import Any

import httpx
from PIL import Image

from tests.clients.conftest import SIDE_PX

QUESTION = 'form-data; name="question"'
IMAGE = 'form-data; name="image"'
JSON = {"content-type": "application/json"}


def ask(client: httpx.Client, **fields: Any) -> httpx.Response:
    """A question that is answered `x`, unless the fields have another."""
    return client.post("/chat", json={"question": "echo x", **fields})


def answered(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def refused(response: httpx.Response, param: str | None, status: int = 400) -> str:
    """The message of a refusal."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert error["param"] == param, error
    message: str = error["message"]
    return message


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def sha_of(client: httpx.Client, answer: dict[str, Any]) -> str | None:
    """Of the pixels that the model got."""
    told: str | None = client.get(f"/conversations/{answer['conversation_id']}").json()["image_sha256"]
    return told


def sha_of_picture(client: httpx.Client, data: bytes, **fields: Any) -> str | None:
    return sha_of(client, answered(ask(client, image=encoded(data), **fields)))


def square(picture: Image.Image) -> bytes:
    """The pixels that a model should get of an opaque picture."""
    return picture.convert("RGB").resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC).tobytes()


def sha256(pixels: bytes) -> str:
    return hashlib.sha256(pixels).hexdigest()
