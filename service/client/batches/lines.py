"""The lines of a file of requests: read and checked once, their bodies again when each is sent."""

import base64
import hashlib
import json
from pathlib import Path
from typing import IO, Any, NamedTuple

from service.client.exit_codes import CommandError, UsageError

URLS = ("/chat", "/paint", "/v1/chat/completions", "/v1/images/generations")
_OWN = ("/chat", "/paint")  # which know priorities
_MAX_TOLD = 3  # lines at fault


class Line(NamedTuple):
    """Where one stands in its file; numbers count from 1, empty lines included."""

    number: int
    custom_id: str
    url: str
    offset: int
    size_bytes: int


class RequestFile(NamedTuple):
    path: Path
    lines: list[Line]
    sha256: str


def read_requests(path: Path) -> RequestFile:
    """Raises CommandError where it cannot be read, UsageError that names the first lines at fault."""
    lines: list[Line] = []
    wrong: list[str] = []
    digest = hashlib.sha256()
    ids: set[str] = set()
    offset = 0
    try:
        with path.open("rb") as file:
            for number, text in enumerate(file, 1):
                digest.update(text)
                if text.strip():
                    try:
                        line = _line(number, text, offset)
                        if line.custom_id in ids:
                            raise ValueError(f"custom_id {line.custom_id!r} is there twice")
                        ids.add(line.custom_id)
                        lines.append(line)
                    except ValueError as error:
                        wrong.append(f"line {number}: {error}")
                offset += len(text)
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from None
    if wrong:
        more = f"; {len(wrong) - _MAX_TOLD} more" if len(wrong) > _MAX_TOLD else ""
        raise UsageError(f"{path}: {'; '.join(wrong[:_MAX_TOLD])}{more}")
    if not lines:
        raise UsageError(f"{path} has no lines")
    return RequestFile(path, lines, digest.hexdigest())


def body_of(file: IO[bytes], line: Line, folder: Path) -> dict[str, Any]:
    """What is sent of a line; `image_file`, below the file's folder or absolute, becomes `image`.

    Raises CommandError for a picture that cannot be read.
    """
    file.seek(line.offset)
    read = json.loads(file.read(line.size_bytes))
    body: dict[str, Any] = read["body"] if "url" in read else read
    body.pop("custom_id", None)
    name = body.pop("image_file", None)
    if name is not None:
        try:
            body["image"] = base64.b64encode((folder / name).read_bytes()).decode()
        except OSError as error:
            raise CommandError(f"line {line.number}: {folder / name}: {error.strerror}") from None
    if line.url in _OWN:
        body.setdefault("priority", "batch")
    return body


def _line(number: int, text: bytes, offset: int) -> Line:
    """Raises ValueError."""
    try:
        read: Any = json.loads(text)
    except ValueError as error:
        raise ValueError(f"is no JSON: {error}") from None
    if not isinstance(read, dict):
        raise ValueError("is no object")
    url, body = (read["url"], read.get("body")) if "url" in read else (_url_of(read), read)
    if url not in URLS:
        raise ValueError(f"url {url!r} is none of {', '.join(URLS)}")
    if not isinstance(body, dict):
        raise ValueError("has a url and no body")
    if body.get("stream"):
        raise ValueError("asks for a stream, which a file cannot hold")
    custom_id = read.get("custom_id", str(number))
    if not isinstance(custom_id, str) or not custom_id:
        raise ValueError(f"custom_id must be text, got {custom_id!r}")
    if not isinstance(body.get("image_file", ""), str):
        raise ValueError(f"image_file must be a file's name, got {body['image_file']!r}")
    return Line(number, custom_id, url, offset, len(text))


def _url_of(body: dict[str, Any]) -> str:
    """Of a line that is a body alone."""
    if ("question" in body) == ("prompt" in body):
        raise ValueError("needs a url and a body, or the body alone of a question or of a prompt")
    return "/chat" if "question" in body else "/paint"
