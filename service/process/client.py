"""`viscpm chat` and `viscpm paint`: small HTTP clients of a running service."""

import base64
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

_TIMEOUT = httpx.Timeout(5.0, read=900.0)  # longer than any job's deadline


class ClientError(Exception):
    """The request did not get its answer; the message is one line."""


def chat(url: str, image: Path | None, question: str, parameters: dict[str, Any]) -> None:
    """Ask one question, or with an empty one hold a conversation on the terminal until end of file."""
    body: dict[str, Any] = dict(parameters)
    if image is not None:
        body["image"] = _read(image)
    with httpx.Client(base_url=url, timeout=_TIMEOUT) as client:
        if question:
            _say(_post(client, "/chat", {**body, "question": question}))
            return
        for asked in _questions():
            try:
                answer = _post(client, "/chat", {**body, "question": asked})
            except ClientError as error:
                print(error, file=sys.stderr)
                continue
            _say(answer)
            body.pop("image", None)  # the conversation has it from now on
            body["conversation_id"] = answer["conversation_id"]


def paint(url: str, prompt: str, output: Path, parameters: dict[str, Any]) -> None:
    """Paint one picture into `output`; its suffix chooses png, jpeg or webp."""
    formats = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
    suffix = output.suffix.lower()
    if suffix not in formats:
        raise ClientError(f"{output}: the name must end in {', '.join(formats)}")
    with httpx.Client(base_url=url, timeout=_TIMEOUT) as client:
        answer = _post(client, "/paint", {**parameters, "prompt": prompt, "output_format": formats[suffix]})
    picture = answer["data"][0]
    try:
        output.write_bytes(base64.b64decode(picture["b64_json"]))
    except OSError as error:
        raise ClientError(f"{output}: {error.strerror}") from None
    _warn_untrained(answer)
    print(f"{output} (seed {picture['seed']})")


def _questions() -> Iterator[str]:
    while True:
        try:
            asked = input("> " if sys.stdin.isatty() else "").strip()
        except (EOFError, KeyboardInterrupt):
            return
        if asked:
            yield asked


def _say(answer: dict[str, Any]) -> None:
    _warn_untrained(answer)
    if answer.get("dropped_turns"):
        print(f"(the conversation is long: its {answer['dropped_turns']} oldest turns were left out)", file=sys.stderr)
    print(answer["answer"])


def _warn_untrained(answer: dict[str, Any]) -> None:
    if answer.get("untrained"):
        print("(untrained weights: the answer means nothing)", file=sys.stderr)


def _read(image: Path) -> str:
    try:
        return base64.b64encode(image.read_bytes()).decode()
    except OSError as error:
        raise ClientError(f"{image}: {error.strerror}") from None


def _post(client: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    try:
        response = client.post(path, json=body)
        answer: dict[str, Any] = response.json()
    except httpx.HTTPError as error:
        raise ClientError(f"{client.base_url}{path.removeprefix('/')}: {error}; is `viscpm serve` running?") from None
    except ValueError:
        raise ClientError(f"{response.url} answered {response.status_code} with no JSON: not this service?") from None
    if response.is_error:
        error_body = answer.get("error", {})
        raise ClientError(f"{response.status_code} {error_body.get('code')}: {error_body.get('message')}")
    return answer
