"""How exceptions become answers: every one of them goes through `from_exception`, once.

What the request sent and FastAPI refused is a 400 with the field at fault; the unexpected keeps its insides to the log.
"""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from service.core.errors import (
    ContentTooLarge,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    ServiceError,
    UnsupportedMedia,
    error_body,
)
from service.http.schemas.requests import KIND_MARK, shown

# Errors whose message says it all; value_error: of our own checks
_TOLD = ("missing", "json_invalid", "extra_forbidden", "value_error", "union_tag_not_found", "union_tag_invalid")
# Of pydantic's paths: which kind of value was tried where a field takes several
_KIND = re.compile(r"str|bool|int|float|constrained-str|(list|literal|tagged-union|function-\w+)\[.*\]")
# The same within a list whose items a `type` or `role` tells apart; other names there are an item's fields
_ITEM_KIND = re.compile(r"text|image_url|refusal|input_text|output_text|input_image|system|developer|user|assistant")
OUTCOME = "viscpm.outcome"  # in a request's scope: the code of the error that it was answered with


def error_response(error: ServiceError) -> Response:
    headers = {"content-type": "application/json", **error.headers}
    if error.closes_connection:
        headers["connection"] = "close"
    if error.retry_after_s is not None:
        headers["retry-after"] = str(max(1, error.retry_after_s))
    return Response(msgspec.json.encode(error_body(error)), error.status, headers)


def from_exception(error: Exception) -> ServiceError:
    """What the caller is told of any exception; the unexpected ones keep their insides to the log."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, RequestValidationError):
        return from_validation(error)
    if isinstance(error, HTTPException):
        return _from_http(error)
    return ServiceError("internal error; the request id names it in the server's log")


def from_validation(error: RequestValidationError | ValidationError) -> InvalidRequest:
    """400 for the first field at fault: its path, the rule, and what was got.

    A field that takes one of several kinds is at fault by each of them; what went furthest into it tells most.
    """
    items = error.errors()
    first = max(items, key=lambda item: len(_path(item["loc"])))
    path = _path(first["loc"])
    param = ".".join(path) or None
    message = ", or ".join(dict.fromkeys(_rule(item) for item in items if _path(item["loc"]) == path))
    got = "" if first["type"] in _TOLD else shown(first.get("input"))
    num_more = len({tuple(other) for item in items if path[: len(other := _path(item["loc"]))] != other})
    more = f" (and {num_more} more)" if num_more else ""
    return InvalidRequest(f"{param or 'body'}: {message}{got}{more}", param=param)


def _path(location: tuple[int | str, ...]) -> list[str]:
    """Of a field in the request: without where in the request that is, and the kinds that a union is told apart by."""
    path: list[str] = []
    before: int | str = ""
    for part in location:
        is_kind = isinstance(part, str) and (
            part.startswith(KIND_MARK)
            or (isinstance(before, int) and bool(_ITEM_KIND.fullmatch(part)))
            or bool(path and _KIND.fullmatch(part))
        )
        if not is_kind and part not in ("body", "query", "path", "header"):
            path.append(str(part))
        before = part
    return path


def _rule(item: Any) -> str:
    if item["type"] == "extra_forbidden":
        return "unknown field"
    if item["type"].startswith("union_tag_"):
        told = item.get("ctx", {})
        allowed = f" of {told['expected_tags']}, got {str(told['tag'])[:40]!r}" if "tag" in told else ""
        return f"needs a {str(told.get('discriminator')).strip(chr(39))}{allowed}"
    return (
        str(item["msg"]).removeprefix("Value error, ").replace("dictionary or object to extract fields from", "object")
    )


def install_error_handlers(app: FastAPI) -> None:
    """Route every exception through `from_exception`; what is unexpected is logged by the request middleware."""
    for exception in (ServiceError, RequestValidationError, HTTPException):
        app.add_exception_handler(exception, _handle)


async def _handle(request: Request, error: Exception) -> Response:
    told = from_exception(error)
    request.scope[OUTCOME] = told.code
    rendered = error_response(told)
    if isinstance(error, HTTPException) and error.headers:
        rendered.headers.update(error.headers)
    return rendered


def _from_http(error: HTTPException) -> ServiceError:
    if error.status_code == HTTPStatus.NOT_FOUND:
        return NotFound("no such route")
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "")
        return MethodNotAllowed(f"method not allowed here; allowed: {allowed or 'see openapi.json'}")
    known: Mapping[int, type[ServiceError]] = {413: ContentTooLarge, 415: UnsupportedMedia}
    if error.status_code in known:
        return known[error.status_code](str(error.detail))
    return InvalidRequest(str(error.detail)) if error.status_code < 500 else ServiceError("internal error")
