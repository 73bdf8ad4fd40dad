"""The lines of a batch: requests in, results out, each a JSON object (JSONL)."""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import msgspec

from models.jobs import Model

Endpoint = Literal["/v1/chat/completions", "/v1/images/generations", "/chat", "/paint"]
MODELS: dict[Endpoint, Model] = {
    "/v1/chat/completions": "chat",
    "/v1/images/generations": "paint",
    "/chat": "chat",
    "/paint": "paint",
}

_MAX_ID_CHARS = 256
_MAX_ERRORS = 20  # that are told of one file


class RequestLine(msgspec.Struct, frozen=True):
    """One request. `body` is JSON, as it will be sent."""

    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


class LineError(msgspec.Struct, frozen=True):
    """Why a batch cannot begin, or could not go on. `line` counts from 1."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


class LineAnswer(NamedTuple):
    """What the service answered a line's request."""

    status: int
    request_id: str
    body: bytes  # JSON
    code: str = ""  # of an error
    retry_after_s: float = 0.0


class CheckedLines(NamedTuple):
    """How many requests a file has, and what is wrong with it: nothing, if it may begin."""

    num_requests: int
    errors: list[LineError]


class _Wishes(msgspec.Struct):
    stream: object = None


_requests = msgspec.json.Decoder(RequestLine)
_wishes = msgspec.json.Decoder(_Wishes)


def check_lines(lines: Iterable[bytes], endpoint: Endpoint, max_requests: int) -> CheckedLines:
    """Whether every line is a request to `endpoint` with an id of its own. Empty lines are passed over."""
    errors: list[LineError] = []
    known: dict[str, int] = {}
    num_requests = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        num_requests += 1
        error = _error_of(line, number, endpoint, known)
        if error is not None and len(errors) < _MAX_ERRORS:
            errors.append(error)
    if num_requests == 0:
        errors.append(LineError("empty_file", "the file has no requests; each line is one, as a JSON object"))
    if num_requests > max_requests:
        message = f"the file has {num_requests} requests, at most {max_requests} are allowed (VISCPM_BATCH_MAX_LINES)"
        errors.append(LineError("too_many_requests", message))
    return CheckedLines(num_requests, errors)


def read_request(line: bytes) -> RequestLine:
    """Of a line that was checked."""
    return _requests.decode(line)


def result_line(result_id: str, custom_id: str, answer: LineAnswer) -> bytes:
    """What came of a request: the service's answer, whatever its status."""
    response = {"status_code": answer.status, "request_id": answer.request_id, "body": msgspec.Raw(answer.body)}
    return _line({"id": result_id, "custom_id": custom_id, "response": response, "error": None})


def unanswered_line(result_id: str, custom_id: str, code: str, message: str) -> bytes:
    """Of a request that has no answer."""
    error = {"code": code, "message": message}
    return _line({"id": result_id, "custom_id": custom_id, "response": None, "error": error})


def encode_errors(errors: Sequence[LineError]) -> bytes:
    return msgspec.json.encode(errors)


def decode_errors(encoded: bytes) -> list[LineError]:
    return msgspec.json.decode(encoded, type=list[LineError]) if encoded else []


def _line(result: dict[str, object]) -> bytes:
    return msgspec.json.encode(result) + b"\n"


def _error_of(line: bytes, number: int, endpoint: Endpoint, known: dict[str, int]) -> LineError | None:
    """What is wrong with a line. `known`: the line of each id so far."""
    try:
        request = _requests.decode(line)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        allowed = "allowed: an object of custom_id, method, url and body"
        return LineError("invalid_json_line", f"not a request: {error}; {allowed}", None, number)
    if not 0 < len(request.custom_id) <= _MAX_ID_CHARS:
        got = len(request.custom_id)
        message = f"custom_id: has {got} characters, 1 to {_MAX_ID_CHARS} are allowed"
        return LineError("invalid_custom_id", message, "custom_id", number)
    if request.custom_id in known:
        message = f"custom_id: {request.custom_id[:64]!r} is that of line {known[request.custom_id]} too"
        return LineError("duplicate_custom_id", message, "custom_id", number)
    known[request.custom_id] = number
    if request.method != "POST":
        return LineError("invalid_method", f"method: must be POST, got {request.method[:40]!r}", "method", number)
    if request.url != endpoint:
        message = f"url: must be the batch's endpoint {endpoint}, got {request.url[:80]!r}"
        return LineError("mismatched_url", message, "url", number)
    try:
        is_stream = bool(_wishes.decode(request.body).stream)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        return LineError("invalid_body", f"body: must be an object: {error}", "body", number)
    if is_stream:
        return LineError("invalid_body", "body.stream: a batch has whole answers, got true", "body.stream", number)
    return None
