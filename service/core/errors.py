"""The error tree, and the one handler that renders it.

Each class is one error code of the API; status codes live here alone. Raised deep, rendered once as
`{"error": {"message", "type", "param", "code"}}` (CONVENTIONS §4).
"""

from collections.abc import Iterator, Mapping
from http import HTTPStatus

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

OUTCOME = "viscpm.outcome"  # in a request's scope: the code of the error that it was answered with


class ServiceError(Exception):
    """Base: an answer of the API that is not a result.

    Args:
        message: what was wrong, what was got, what is allowed.
        param: the request field at fault.
        retry_after_s: sent as `Retry-After` where trying again helps.
        extra: further members of the error object, such as a verdict.
    """

    status = 500
    type = "server_error"
    code = "internal_error"
    closes_connection = False  # not while a body is still coming: closing then would reset it and lose the answer

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: int | None = None,
        extra: dict[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.extra = extra or {}


class Unavailable(ServiceError):
    """503: something that the service needs is away for now. Always with Retry-After."""

    status = 503
    type = "service_unavailable"
    code = "service_unavailable"

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message, retry_after_s=retry_after_s)


class BusUnavailable(Unavailable):
    """Redis does not answer, or refuses writes because it is full."""

    code = "bus_unavailable"


class ModelUnavailable(Unavailable):
    """No live worker serves the model."""

    code = "model_loading"


class Draining(Unavailable):
    """This process is shutting down."""

    code = "draining"


class QueueFull(ServiceError):
    """429: no slot is free."""

    status = 429
    type = "rate_limit_error"
    code = "queue_full"

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message, retry_after_s=retry_after_s)


class JobFailed(ServiceError):
    """500: the job ended as failed; `code` is the engine's, or `job_failed`."""

    code = "job_failed"


class JobLost(ServiceError):
    """500: the server no longer knows a job that was accepted (its data was lost)."""

    code = "job_lost"


class InvalidRequest(ServiceError):
    """400: the request cannot be understood or asks for something outside the limits."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_request"


class InvalidBase64(InvalidRequest):
    """400: the picture's text is not base64."""

    code = "invalid_base64"


class InvalidImage(InvalidRequest):
    """400: the bytes are not a picture of an allowed format, or a broken one."""

    code = "invalid_image"


class ImageTooLarge(InvalidRequest):
    """400: more pixels than allowed."""

    code = "image_too_large"


class ImageFetchDisabled(InvalidRequest):
    """400: an http(s) URL where fetching is off."""

    code = "image_fetch_disabled"


class BlockedUrl(InvalidRequest):
    """400: a URL that the service does not connect to."""

    code = "blocked_url"


class ImageFetchFailed(InvalidRequest):
    """422: the URL's server gave no picture."""

    status = 422
    code = "unprocessable_media"


class ContextLengthExceeded(InvalidRequest):
    """400: the talk does not fit the model, and `strict_length` forbids dropping turns."""

    code = "context_length_exceeded"


class InvalidSize(InvalidRequest):
    """400: a picture of these sides cannot be painted."""

    code = "invalid_size"


class RerankerNotConfigured(InvalidRequest):
    """400: reranking was asked for and no reranker's weights are configured."""

    code = "reranker_not_configured"


class ContentRefused(InvalidRequest):
    """400: a screen refused what was sent in, or every painted candidate. Carries the verdict."""

    code = "content_policy_violation"


class NotFound(ServiceError):
    """404."""

    status = 404
    type = "invalid_request_error"
    code = "not_found"


class ConversationNotFound(NotFound):
    """404: never existed, expired or was deleted."""

    code = "conversation_not_found"


class JobNotFound(NotFound):
    """404: never existed, or its retention is over."""

    code = "job_not_found"


class ModelNotFound(NotFound):
    """404: no such model here."""

    code = "model_not_found"


class MethodNotAllowed(ServiceError):
    """405."""

    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"


class NotAcceptable(ServiceError):
    """406: no representation that the Accept header allows."""

    status = 406
    type = "invalid_request_error"
    code = "not_acceptable"


class BodyTimeout(ServiceError):
    """408: the body did not arrive in time."""

    status = 408
    type = "invalid_request_error"
    code = "body_timeout"
    closes_connection = True


class ConversationBusy(ServiceError):
    """409: another turn of the same conversation is being answered; a retry helps."""

    status = 409
    type = "invalid_request_error"
    code = "conversation_busy"

    def __init__(self, message: str, *, param: str | None = "conversation_id", retry_after_s: int = 1) -> None:
        super().__init__(message, param=param, retry_after_s=retry_after_s)


class ContentTooLarge(ServiceError):
    """413: the body is larger than the byte cap."""

    status = 413
    type = "invalid_request_error"
    code = "content_too_large"


class UnsupportedMedia(ServiceError):
    """415: a Content-Type that the route does not read."""

    status = 415
    type = "invalid_request_error"
    code = "unsupported_media_type"


class Cancelled(ServiceError):
    """499: the job was cancelled. A client that went away never sees it; one that polls or resumes does."""

    status = 499
    type = "invalid_request_error"
    code = "cancelled"


class Deadline(ServiceError):
    """504: the job was not done before its deadline, and is cancelled."""

    status = 504
    type = "timeout_error"
    code = "deadline_exceeded"


class ScreenUnavailable(Unavailable):
    """503: a safety screen gave no verdict; nothing passes unscreened."""

    code = "safety_unavailable"


def from_code(code: str, message: str, job_id: str = "") -> ServiceError:
    """The error that an ended job's `code` stands for; a code that is no class of the API is a JobFailed of that code.

    Args:
        job_id: told to the caller on every 500, so that it can be looked for in the logs.
    """
    error = _CLASSES.get(code, JobFailed)(message)
    if isinstance(error, JobFailed) and code:
        error.code = code
    if job_id and error.status >= 500:
        error.extra = {**error.extra, "job_id": job_id}
    return error


def codes_of(status: int) -> list[str]:
    """The error codes that a status stands for."""
    kinds: list[type[ServiceError]] = [ServiceError, *_CLASSES.values()]
    return sorted(kind.code for kind in kinds if kind.status == status)


def body(error: ServiceError) -> dict[str, object]:
    return {
        "error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code} | error.extra
    }


def response(error: ServiceError) -> Response:
    headers = {"content-type": "application/json"}
    if error.closes_connection:
        headers["connection"] = "close"
    if error.retry_after_s is not None:
        headers["retry-after"] = str(max(1, error.retry_after_s))
    return Response(msgspec.json.encode(body(error)), error.status, headers)


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
    got = _shown(first.get("input")) if first["type"] not in ("missing", "json_invalid", "extra_forbidden") else ""
    more = f" (and {len(items) - 1} more)" if len(items) > 1 else ""
    return InvalidRequest(f"{param or 'body'}: {message}{got}{more}", param=param)


def install(app: FastAPI) -> None:
    """Route every exception through `from_exception`; what is unexpected is logged by the request middleware."""
    for exception in (ServiceError, RequestValidationError, HTTPException):
        app.add_exception_handler(exception, _handle)


async def _handle(request: Request, error: Exception) -> Response:
    told = from_exception(error)
    request.scope[OUTCOME] = told.code
    rendered = response(told)
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
    return f", got {type(value).__name__}"


def _subclasses(root: type[ServiceError]) -> Iterator[type[ServiceError]]:
    for child in root.__subclasses__():
        yield child
        yield from _subclasses(child)


_CLASSES = {kind.code: kind for kind in _subclasses(ServiceError)}
