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
    with _client(url) as client:
        if question:
            _say(_post(client, "/chat", {**body, "question": question}, "answer"))
            return
        for asked in _questions():
            try:
                answer = _post(client, "/chat", {**body, "question": asked}, "answer")
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
    with _client(url) as client:
        answer = _post(client, "/paint", {**parameters, "prompt": prompt, "output_format": formats[suffix]}, "data")
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


def _client(url: str) -> httpx.Client:
    try:
        return httpx.Client(base_url=url, timeout=_TIMEOUT)
    except httpx.InvalidURL as error:
        raise ClientError(f"{url} is no URL: {error}") from None


def _post(client: httpx.Client, path: str, body: dict[str, Any], member: str) -> dict[str, Any]:
    """The answer, which has `member`."""
    try:
        response = client.post(path, json=body)
        answer: Any = response.json()
    except httpx.HTTPError as error:
        raise ClientError(f"{client.base_url}{path.removeprefix('/')}: {error}; is `viscpm serve` running?") from None
    except ValueError:
        raise ClientError(f"{response.url} answered {response.status_code} with no JSON: not this service?") from None
    told = answer.get("error" if response.is_error else member) if isinstance(answer, dict) else None
    if told is None or (response.is_error and not isinstance(told, dict)):
        raise ClientError(f"{response.url} answered {response.status_code} with other JSON: not this service?")
    if response.is_error:
        raise ClientError(f"{response.status_code} {told.get('code')}: {told.get('message')}")
    return dict(answer)
