"""How exceptions become answers: every one of them goes through `from_exception`, once.

What the request sent and FastAPI refused is a 400 with the field at fault; the unexpected keeps its insides to the log.
"""

from collections.abc import Mapping
from http import HTTPStatus

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

_TOLD = ("missing", "json_invalid", "extra_forbidden")  # errors whose message says it all
OUTCOME = "viscpm.outcome"  # in a request's scope: the code of the error that it was answered with


def error_response(error: ServiceError) -> Response:
    headers = {"content-type": "application/json"}
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
    """400 for the first field at fault: its path, the rule, and what was got."""
    items = error.errors()
    first = items[0]
    location = [str(part) for part in first["loc"] if part not in ("body", "query", "path", "header")]
    param = ".".join(location) or None
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "unknown field"
    is_told = first["type"] in _TOLD or (first["type"] == "value_error" and isinstance(first.get("input"), dict))
    got = "" if is_told else _shown(first.get("input"))
    more = f" (and {len(items) - 1} more)" if len(items) > 1 else ""
    return InvalidRequest(f"{param or 'body'}: {message}{got}{more}", param=param)


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


def _shown(value: object) -> str:
    """A short form of what was got; never a picture's text or a long prompt."""
    if isinstance(value, bool | int | float) or value is None:
        return f", got {str(value)[:40]}"
    if isinstance(value, str):
        return f", got {value!r}" if len(value) <= 40 else f", got {len(value)} characters"
    if isinstance(value, dict):
        names = ", ".join(repr(str(name)[:20]) for name in list(value)[:3])
        return f", got an object {f'of {names}' if names else 'of no fields'}"
    return f", got a list of {len(value)}" if isinstance(value, list | tuple) else ", got something else"
